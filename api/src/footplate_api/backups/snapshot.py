"""Copies one committed state of a database while others write to it.

SQLite's backup restarts whenever another connection commits, which telemetry does every few milliseconds. So
the copy begins a read transaction first: its state stands still, writers continue in the write-ahead log,
and the copy may take any number of steps. The cost is that SQLite cannot checkpoint the log beyond that state
before the copy is done. So the copy gives up before the log fills the space that the database needs, and
checkpoints the log itself at the end, or the next telemetry would wait for all of that.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from footplate_api.backups.files import create_file
from footplate_api.backups.integrity import revision_of
from footplate_api.errors import InsufficientSpace, UnusableDatabaseFile

PAGES: Final = 1024  # of a step: 4 MiB
STEPS: Final = 4  # after which what was written goes to the disk: at the end nobody waits for all of it
BUSY_SECONDS: Final = 15
_LEFT: Final = 2  # the log may take one part in so many of the room that there was


def free_at(folder: Path) -> int:
    """Return the free bytes on the volume of `folder`."""
    return shutil.disk_usage(folder).free


def copy_database(database: Path, target: Path, free: Callable[[Path], int] = free_at) -> str | None:
    """Copy what is committed in `database` now to `target`; return the copy's schema revision.

    `free` returns the free bytes on a folder's volume. `target` is on the disk when copy() returns. Raises
    InsufficientSpace, UnusableDatabaseFile, sqlite3.Error or OSError; then an existing `target` is worthless.
    """
    descriptor = create_file(target)
    try:
        with (
            closing(_opened(database)) as live,
            closing(sqlite3.connect(target, isolation_level=None)) as copied,
        ):
            for pragma in ("journal_mode=OFF", "synchronous=OFF"):  # what is half done counts as nothing
                copied.execute(f"PRAGMA {pragma}")
            live.execute("BEGIN")
            revision = revision_of(live)  # which is read first: the state stands still from here
            live.backup(copied, pages=PAGES, progress=_watch(database, target, descriptor, free))
            live.execute("COMMIT")
            live.execute("PRAGMA wal_checkpoint(PASSIVE)")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)  # after SQLite's own: closing a file gives all locks on it back
    return revision


def size_of(database: Path) -> int:
    """Return the bytes that a copy takes; raises UnusableDatabaseFile or sqlite3.Error."""
    with closing(_opened(database)) as live:
        [[pages]], [[size]] = (live.execute(f"PRAGMA {name}") for name in ("page_count", "page_size"))
    return int(pages) * int(size)


def _opened(database: Path) -> sqlite3.Connection:
    """Open the database without creating a missing file; raises UnusableDatabaseFile if there is none."""
    if not database.is_file():
        raise UnusableDatabaseFile(f"{database} does not exist or is not a file")
    address = f"{database.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _watch(
    database: Path, target: Path, descriptor: int, free: Callable[[Path], int]
) -> Callable[[int, int, int], None]:
    """Return the progress callback, which flushes the copy and raises InsufficientSpace for a long log."""
    folder = database.parent
    room = free(folder)
    if folder.stat().st_dev == target.stat().st_dev:
        room -= size_of(database)  # which the copy itself takes
    steps = 0

    def stepped(status: int, remaining: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps % STEPS == 0:
            os.fdatasync(descriptor)
        if remaining and (left := free(folder)) < room // _LEFT:
            raise InsufficientSpace(
                f"{folder} has {left} bytes free, of {room} when the copy began: the copy was aborted to"
                " leave space for the database; enlarge that volume"
            )

    return stepped
