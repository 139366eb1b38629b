"""The process in which a reward function runs, on its own side: python -m …worker SOCKET PARENT.

The first message describes the scorer; each later message has the samples of a call. The function may print,
fork, close files and end the process: the process that got the request sends one message with the results, or
nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from footplate_trainer.errors import UserMistake
from footplate_trainer.process_limits import set_rlimit
from footplate_trainer.rewards.messages import MessageReader, encode
from footplate_trainer.rewards.reward_values import parse_rewards
from footplate_trainer.rewards.scorers import Scorer, open_scorer

MOST_BYTES: Final = 4 << 30  # of memory of its own (RLIMIT_DATA), which no file backs
_SHOWN: Final = 300  # characters of an exception
_PR_SET_PDEATHSIG: Final = 1


def serve(connection: socket.socket) -> None:
    """Answer the messages of `connection`, until it is closed."""
    process = os.getpid()
    reader = MessageReader()
    scorer: Scorer | None = None
    while chunk := connection.recv(1 << 20):
        for message in reader.feed(chunk):
            if scorer is None:
                scorer, answer = _ready(message)
            else:
                answer = _score(scorer, message)
            if os.getpid() != process:  # a child of the function's came back with it
                os._exit(0)
            connection.sendall(encode(answer))


def _ready(set_up: Mapping[str, Any]) -> tuple[Scorer | None, tuple[str, object]]:
    try:
        return open_scorer(set_up), ("ready", None)
    except UserMistake as mistake:
        return None, ("mistake", str(mistake))
    except BaseException as error:  # noqa: BLE001 - somebody else's module is imported
        said = f"{set_up['field']} {set_up.get('name', '')}".rstrip()
        return None, ("mistake", f"{said}: importing it raised {_told(error)}")


def _score(scorer: Scorer, samples: Sequence[Mapping[str, Any]]) -> tuple[str, object]:
    try:
        return "answer", parse_rewards(scorer(samples), len(samples))
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            return "raised", f"it raised {_told(error)}"
        gibibytes = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 30
        return "exhausted", f"it needed more memory than its process's limit of {gibibytes} GiB"
    except BaseException as error:  # noqa: BLE001 - somebody else's function, which may exit, too
        return "raised", f"it raised {_told(error)}"


def _told(error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:  # noqa: BLE001 - an exception that cannot say what it is
        text = type(error).__name__
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _bound(parent: int) -> None:
    """Disable core files, limit memory, be the first to be OOM-killed, and end with the parent."""
    set_rlimit(resource.RLIMIT_CORE, 0)
    set_rlimit(resource.RLIMIT_DATA, MOST_BYTES)
    with suppress(OSError):  # a sandbox may have no such file
        Path("/proc/self/oom_score_adj").write_text("1000")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before that
        sys.exit()


if __name__ == "__main__":
    _bound(int(sys.argv[2]))
    inherited = socket.socket(fileno=int(sys.argv[1]))
    inherited.set_inheritable(False)
    del sys.argv[1:]
    serve(inherited)
