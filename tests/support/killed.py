"""Work that is killed before any of its calls to the operating system or to SQLite, and what it leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from multiprocessing import get_context
from types import FrameType
from typing import Any, Final

OUTSIDE: Final = {"posix", "fcntl", "_io", "_sqlite3", "sqlite3"}  # modules that reach files
# Killed before one of these is as well as before the next call.
_QUIET: Final = """
fspath stat lstat fstat statvfs listdir scandir fetchone getpid close text_encoding readable seekable isatty
"""
CHANGE_NOTHING: Final = frozenset(_QUIET.split())


def killed_before(call: int, work: Callable[[], object]) -> bool:
    """Whether `work` had that many calls (from 1), before the last of which its process was killed.

    Fails where it ended otherwise, by an exception.
    """
    process = get_context("fork").Process(target=_work, args=(call, work))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _work(call: int, work: Callable[[], object]) -> None:
    numbers = count(1)

    def watch(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and _reaches_files(function) and next(numbers) == call:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)
    work()
    sys.setprofile(None)


def _reaches_files(function: Any) -> bool:
    if function.__name__ in CHANGE_NOTHING:
        return False
    return not OUTSIDE.isdisjoint({function.__module__, type(function.__self__).__module__})
