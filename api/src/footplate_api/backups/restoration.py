"""Replaces the database by a backup, entirely or not at all; no other process may have the database open.

The database is three files, and a write-ahead log that is older than its database destroys it. So restore()
first checkpoints the current database's log; then it gives both files a second name beside their own, and
renames the backup, which it has copied and verified under a third name, to the database's name. Whatever
interrupts this, the database's name refers to the old database or to the new one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from footplate_api.backups.files import create_file, require_space, sync
from footplate_api.backups.integrity import check_not_in_use, revision_of, verify
from footplate_api.errors import RestoreRefused

_LOG, _SHARED = "-wal", "-shm"
_NEW: Final = ".restoring"
_MARK: Final = ".restored"  # holds the name of the back-up that was asked for once
_MARGIN: Final = 1 << 20
_ROOM: Final = "a restore keeps the current database; delete earlier ones (*.before-*), or enlarge the volume"


@dataclass(frozen=True)
class RestoreResult:
    """A backup that is the database now."""

    revision: str
    kept: Path | None  # what was there


def restore(
    file: Path, database: Path, known: Collection[str], moment: datetime, *, replace: bool = False
) -> RestoreResult:
    """Replace `database` by the backup `file`; the caller holds the lock of its sole writer.

    Args:
        known: the schema revisions of this release; an older one is migrated when the API starts.
        moment: the current time, for the name under which the previous database is stored.
        replace: allow the replacement of an existing database.

    Raises RestoreRefused, UnusableDatabaseFile, InsufficientSpace or OSError; then the database is as it was.
    """
    if database.exists() and not replace:
        raise RestoreRefused(
            f"{database} exists already: pass --replace to rename it and put the back-up in its place"
        )
    require_space(database.parent, file.stat().st_size + _MARGIN, _ROOM)
    new = database.with_name(database.name + _NEW)
    new.unlink(missing_ok=True)
    try:
        check_not_in_use(file)
        _copy(file, new)
        revision = verify(new)
        if revision < min(known):
            raise RestoreRefused(
                f"{file} holds tables of a development version (revision {revision}), which no release reads:"
                " restore a back-up of a release"
            )
        if revision not in known and revision != _revision_there(database):
            raise RestoreRefused(
                f"{file} has the schema {revision} of a newer release, and this release knows schemas up to"
                f" {max(known)}: restore it with the image of that release, or an older back-up"
            )
        kept = _keep(database, moment)
        for suffix in (_LOG, _SHARED):
            _beside(database, suffix).unlink(missing_ok=True)
        new.rename(database)
    finally:
        new.unlink(missing_ok=True)
    sync(database.parent)
    return RestoreResult(revision, kept)


def was_restored(database: Path, name: str) -> bool:
    """Return whether the backup of that name was restored already, and the record of that still exists."""
    mark = _beside(database, _MARK)
    return mark.exists() and mark.read_text() == name


def record_restore(database: Path, name: str) -> None:
    """Record the restored backup, so that the next pod with the same setting does not restore it again."""
    half = _beside(database, _MARK + _NEW)
    half.write_text(name)
    half.rename(_beside(database, _MARK))
    sync(database.parent)


def clear_restore_record(database: Path) -> None:
    """Delete the record of the restored backup: the next setting counts, whatever it names."""
    _beside(database, _MARK).unlink(missing_ok=True)


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def _copy(file: Path, new: Path) -> None:
    with os.fdopen(create_file(new), "wb") as written, file.open("rb") as read:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def _revision_there(database: Path) -> str | None:
    """Return the current database's schema, with which the API worked; None if unreadable."""
    if not database.exists():
        return None
    try:
        with closing(_opened(database)) as there:
            return revision_of(there)
    except sqlite3.Error:
        return None


def _keep(database: Path, moment: datetime) -> Path | None:
    """Link the current database to a second name, and its log if that remains; return the name."""
    if database.exists():
        try:
            with closing(_opened(database)) as there:
                there.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            pass  # it is damaged, and kept as it is
    time = moment.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    kept = _beside(database, f".before-{time}")
    for suffix in ("", _LOG):
        if _beside(database, suffix).exists():
            os.link(_beside(database, suffix), _beside(kept, suffix))
    sync(database.parent)
    return kept if kept.exists() else None


def _opened(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)
