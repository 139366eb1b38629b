"""Two commands at once must not build, or take down, the same thing.

A flock vanishes with its process, however that ends: nothing to clean up after a crash.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.machine.progress import say


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Holds the lock file for the block; says so when it has to wait for another command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another command is {what}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Holds the lock file for the block and yields True, or yields False where another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def made_once(path: Path, make: Callable[[Path], object], what: str) -> Path:
    """Return `path`, a folder; where it is missing, one process makes it and the others wait.

    `make` fills another folder beside it, which becomes `path` once it is whole: what a killed process left
    is made anew.
    """
    if not path.exists():
        with exclusive(path.with_name(f".{path.name}.lock"), what):
            if not path.exists():
                half = path.with_name(f".{path.name}.half")
                shutil.rmtree(half, ignore_errors=True)
                make(half)
                half.rename(path)
    return path
