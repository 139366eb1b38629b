"""`python -m footplate_elastic.agent`: the main process of a worker pod.

The zygote is started before anything else is imported: its seconds of imports run beside the registration
with the coordinator and the imports of the agent.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from footplate_elastic.agent.errors import SIGTERM_EXIT, Terminated
from footplate_elastic.agent.zygote import CONFIG_EXIT
from footplate_elastic.agent.zygote_client import Zygote

if TYPE_CHECKING:
    from footplate_contracts.failures import FailureReport
    from footplate_elastic.protocol.outline import RunOutline

    Check = Callable[[RunOutline], FailureReport | None]


def main(
    entry: str | None = None,
    warm: Sequence[str] = ("torch",),
    check: Check | None = None,
    zygote: type[Zygote] = Zygote,
) -> NoReturn:
    """End this process as the agent ends: 0 finished, 79 suspended, 80 evicted, 78 cannot work, 143 SIGTERM.

    Ranks run `entry` ("module:function") in forks of a process that imported the modules `warm`. `check`
    looks at a run before anything slow is done, and returns why it cannot be trained. Tests pass a `zygote`
    that starts otherwise.
    """
    _end(_main(_arguments(entry, warm), check, zygote))


def _main(arguments: argparse.Namespace, check: Check | None, kind: type[Zygote]) -> int:
    wake = threading.Event()

    def make_zygote() -> Zygote:
        return kind(arguments.warm, wake.set)

    zygote = make_zygote()
    ending = SigtermHandler()
    signal.signal(signal.SIGTERM, ending)
    # All members have the same number of ranks: torch need not ask each for its own.
    os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        return _run(arguments.entry, check, zygote, make_zygote, wake, ending)
    except ValueError as error:
        print(f"agent: {error}", file=sys.stderr)
        return CONFIG_EXIT
    except Terminated:
        return SIGTERM_EXIT
    finally:
        zygote.close()


def _run(
    entry: str,
    check: Check | None,
    zygote: Zygote,
    make_zygote: Callable[[], Zygote],
    wake: threading.Event,
    ending: SigtermHandler,
) -> int:
    """Run the part that needs more than the standard library; raises ValueError for invalid settings."""
    from footplate_contracts import logs
    from footplate_elastic.agent.config import from_environment
    from footplate_elastic.agent.launch import Launch

    config = from_environment(os.environ)
    logs.configure("footplate_elastic", log_format=config.log_format)
    run = config.outline.run
    logs.set_process_fields(run=f"{run.namespace}/{run.name}", uid=run.uid)
    launch = Launch(config, entry, check, zygote, make_zygote, wake)
    ending.later = launch.session.begin_leaving
    return launch.run()


class SigtermHandler:
    """SIGTERM handler: ends the process at once, unless `later` returns that ranks save first.

    Whoever sent SIGTERM kills this process after the pod's grace period, whatever it waits for.
    """

    def __init__(self) -> None:
        self.later: Callable[[], bool] = _at_once

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal, once; raises Terminated."""
        signal.signal(number, signal.SIG_IGN)
        if not self.later():
            raise Terminated


def _at_once() -> bool:
    """Return False: there is nothing to save before ranks run."""
    return False


def _arguments(entry: str | None, warm: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agent", description=__doc__)
    parser.add_argument(
        "--entry",
        default=entry,
        required=entry is None,
        help="module:function that a rank runs (%(default)s)",
    )
    parser.add_argument("--warm", action="append", help="module to import before ranks are forked")
    arguments = parser.parse_args()
    arguments.warm = arguments.warm or list(warm)
    return arguments


def _end(code: int) -> NoReturn:
    """Exit without the interpreter's cleanup: torch's store threads can hang it, and the pod with it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
