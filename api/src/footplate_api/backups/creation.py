"""Creates one backup: copies to a temporary name, verifies the copy, renames it, then deletes old backups."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from footplate_api.backups import names
from footplate_api.backups.files import list_backups, require_space, sync
from footplate_api.backups.integrity import verify
from footplate_api.backups.snapshot import copy_database, size_of
from footplate_api.errors import BackupFailed, InsufficientSpace, UnusableDatabaseFile

_SUFFIX: Final = ".backup.lock"  # beside the database, whose file system has locks; never deleted
_MARGIN: Final = 1 << 20  # bytes that a file system takes beside a file's own
_FULL: Final = "lower api.backup.keep, or enlarge the volume of back-ups (api.backup.persistence)"


@dataclass(frozen=True)
class Backup:
    """A complete backup."""

    file: Path
    size: int
    revision: str
    removed: tuple[str, ...]  # names of older ones that went


def create_backup(
    database: Path,
    folder: Path,
    keep: int,
    now: Callable[[], datetime],
    copied: Callable[[], object] = lambda: None,
) -> Backup:
    """Create a backup of `database` in `folder`, keep the `keep` newest; wait while another is created.

    `copied` is called once the database is no longer needed.

    Raises BackupFailed; unless that happens while it deletes old backups, no backup has been added or
    deleted.
    """
    try:
        database, folder = database.resolve(), folder.resolve()  # as SQLite takes them
        with _turn(database):
            return _made(database, folder, keep, now(), copied)
    except (InsufficientSpace, UnusableDatabaseFile) as error:
        raise BackupFailed(str(error)) from error
    except (sqlite3.Error, OSError) as error:
        raise BackupFailed(f"{database} cannot be copied to {folder}: {error}") from error


def _made(database: Path, folder: Path, keep: int, moment: datetime, copied: Callable[[], object]) -> Backup:
    _clear(folder)
    require_space(folder, size_of(database) + _MARGIN, _FULL)
    file = folder / names.name_of(moment)
    partial = file.with_name(file.name + names.PARTIAL)
    try:
        expected = copy_database(database, partial)
        copied()
        revision = verify(partial)
        if revision != expected:
            raise UnusableDatabaseFile(f"{partial} has the schema {revision}, but {database} had {expected}")
        size = partial.stat().st_size
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)
    sync(folder)
    others = [
        name for name in list_backups(folder) if name != file.name
    ]  # some of which may be of a later clock
    removed = tuple(names.surplus(others, keep - 1))
    for name in removed:
        (folder / name).unlink()
    return Backup(file, size, revision, removed)


def _clear(folder: Path) -> None:
    """Delete what an interrupted process left behind."""
    for file in folder.iterdir():
        if names.moment_of(file.name.removesuffix(names.PARTIAL)) and file.name.endswith(names.PARTIAL):
            file.unlink()


@contextmanager
def _turn(database: Path) -> Iterator[None]:
    """Lock `database` against backups by other processes."""
    beside = database.with_name(database.name + _SUFFIX)
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
