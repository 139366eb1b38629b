"""Integrity and schema checks of Footplate's database files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from footplate_api.errors import UnusableDatabaseFile


def revision_of(connection: sqlite3.Connection) -> str | None:
    """Return the schema revision of a database; None if it has none of Footplate's."""
    try:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:  # there is no such table
        return None
    return None if found is None else str(found[0])


def check_not_in_use(file: Path) -> None:
    """Raise UnusableDatabaseFile if `file` has a write-ahead log, as a running API's database does."""
    log = file.with_name(file.name + "-wal")
    if log.exists():
        raise UnusableDatabaseFile(
            f"{file} is a database in use: {log.name} beside it has changes that it lacks"
        )


def verify(file: Path) -> str:
    """Return the schema revision of an unused database, after checking all its pages and indexes.

    Raises UnusableDatabaseFile, or OSError.
    """
    check_not_in_use(file)
    with file.open("rb"):
        pass  # of whoever may not read it SQLite says only that it cannot open it
    # Immutable: nothing is written beside it, so that the folder may be read-only.
    address = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            [found] = connection.execute("PRAGMA integrity_check(1)").fetchone()
            revision = revision_of(connection)
    except sqlite3.DatabaseError as error:
        raise UnusableDatabaseFile(f"{file} is damaged or not a database: {error}") from None
    if found != "ok":
        raise UnusableDatabaseFile(f"{file} is damaged: {found}")
    if revision is None:
        raise UnusableDatabaseFile(f"{file} is not a database of Footplate: it lacks the schema")
    return revision
