"""Copies one committed state of a database that others write meanwhile.

SQLite's backup begins anew whenever another connection commits, and under telemetry that is every few
milliseconds. So a read transaction is begun first: its state stands still, writers go on into the write-ahead
log, and the copy takes as many steps as it likes. What it costs them is that nothing of the log beyond that
state can be written back before the copy is done. So the copy gives up before the log takes the room that the
database needs, and writes the log back itself, or the next telemetry would wait for all of that.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from footplate_api.backups.durable import created
from footplate_api.backups.soundness import revision_of
from footplate_api.errors import NoRoom, Unsound

PAGES: Final = 1024  # of a step: 4 MiB
STEPS: Final = 4  # after which what was written goes to the disk: at the end nobody waits for all of it
BUSY_SECONDS: Final = 15
_LEFT: Final = 2  # the log may take one part in so many of the room that there was


def free_at(folder: Path) -> int:
    """Bytes that the volume of `folder` has left."""
    return shutil.disk_usage(folder).free


def copy(database: Path, target: Path, free: Callable[[Path], int] = free_at) -> str | None:
    """Makes `target` of what is committed in `database` now; the schema's revision of that.

    `free` tells what a folder's volume has left. `target` is on the disk when it returns. Raises NoRoom,
    Unsound, sqlite3.Error or OSError; then `target` may be there, and is nothing.
    """
    descriptor = created(target)
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
    """Bytes that a copy of it takes. Raises Unsound where it is no database, or sqlite3.Error."""
    with closing(_opened(database)) as live:
        [[pages]], [[size]] = (live.execute(f"PRAGMA {name}") for name in ("page_count", "page_size"))
    return int(pages) * int(size)


def _opened(database: Path) -> sqlite3.Connection:
    """Its file is not made where there is none."""
    if not database.is_file():
        raise Unsound(f"{database} is not there, or no file")
    address = f"{database.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _watch(
    database: Path, target: Path, descriptor: int, free: Callable[[Path], int]
) -> Callable[[int, int, int], None]:
    """What is done after each step."""
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
            raise NoRoom(
                f"{folder} has {left} bytes free, of {room} when the copy began: it was given up, or the"
                " database would have none left; enlarge that volume"
            )

    return stepped
