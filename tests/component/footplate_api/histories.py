"""Databases with something in them, as files, and what is in them; for tests of back-ups and restores."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

FILLED = 5 << 20  # bytes: copied in more than one step


def holding(migrated: Path, file: Path, what: str, size: int = FILLED) -> Path:
    """A database at `file` that says `what` it is, in its write-ahead log alone, as after a crash."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(migrated, file)
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE filler (bytes BLOB)")
        for _ in range(size >> 20):
            database.execute("INSERT INTO filler VALUES (randomblob(1048576))")
    crashed = file.with_name("crashed.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("CREATE TABLE said (what TEXT)")
        database.execute("INSERT INTO said VALUES (?)", (what,))
        for suffix in ("", "-wal"):  # before it is closed, which would write the log back
            shutil.copy(f"{file}{suffix}", f"{crashed}{suffix}")
    for suffix in ("", "-wal"):
        Path(f"{crashed}{suffix}").rename(f"{file}{suffix}")
    return file


def said(file: Path) -> str:
    """What a database says that it is; fails where it is damaged."""
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [[found]] = database.execute("SELECT what FROM said")
    return str(found)


def dump(file: Path) -> str:
    """The digest of all that is in a database."""
    found = hashlib.sha256()
    with closing(sqlite3.connect(file)) as database:
        for line in database.iterdump():
            found.update(line.encode())
    return found.hexdigest()


def set_revision(file: Path, revision: str) -> None:
    """Another release made its schema."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
