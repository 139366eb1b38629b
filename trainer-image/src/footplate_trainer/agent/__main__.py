"""`python -m footplate_trainer.agent`: the main process of a worker pod.

The zygote is started before anything else is imported: its seconds of imports
run beside the registration with the coordinator and the imports of the agent.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from footplate_trainer.agent.errors import SIGTERM_EXIT, Terminated
from footplate_trainer.agent.zygote import CONFIG_EXIT
from footplate_trainer.agent.zygote_client import Zygote

ENTRY = "footplate_trainer.stages.rank:run_rank"
WARM = ("torch", "footplate_trainer.warm")


def main() -> int:
    """Exit code: 0 finished, 79 suspended, 80 evicted, 78 cannot work, 143 after SIGTERM."""
    arguments = _arguments()
    wake = threading.Event()

    def make_zygote() -> Zygote:
        return Zygote(arguments.warm or WARM, wake.set)

    zygote = make_zygote()
    signal.signal(signal.SIGTERM, _terminate)
    # All members have the same number of ranks: torch need not ask each for its own.
    os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        return _run(arguments.entry, zygote, make_zygote, wake)
    except ValueError as error:
        print(f"agent: {error}", file=sys.stderr)
        return CONFIG_EXIT
    except Terminated:
        return SIGTERM_EXIT
    finally:
        zygote.close()


def _run(entry: str, zygote: Zygote, make_zygote: Callable[[], Zygote], wake: threading.Event) -> int:
    """What needs more than the standard library; raises ValueError for a wrong environment."""
    from footplate_trainer.agent.config import from_environment
    from footplate_trainer.agent.launch import Launch
    from footplate_trainer.coordinator import logs

    logs.configure("agent")
    return Launch(from_environment(os.environ), entry, zygote, make_zygote, wake).run()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise Terminated


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agent", description=__doc__)
    parser.add_argument("--entry", default=ENTRY, help="module:function that a rank runs (%(default)s)")
    parser.add_argument("--warm", action="append", help="module to import before ranks are forked")
    return parser.parse_args()


def _end(code: int) -> NoReturn:
    """Without the interpreter's own farewell: torch's store threads can hang it, and the pod with it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
