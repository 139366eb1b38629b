"""A back-up is whole or is none: whatever ends it in the middle, and wherever there is no room."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from footplate_api.backups import names
from footplate_api.backups.creation import Backup, create_backup
from footplate_api.backups.integrity import verify
from footplate_api.backups.snapshot import copy_database
from footplate_api.errors import BackupFailed, InsufficientSpace, UnusableDatabaseFile
from tests.component.footplate_api.histories import holding, said
from tests.support.killed import killed_before

NIGHT = datetime(2026, 1, 31, 3, 17, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def database(migrated_file: Path, tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return holding(migrated_file, tmp_path / "data" / "footplate.db", "mine")


@pytest.fixture
def folder(database: Path) -> Path:
    return database.parents[1] / "backups"


def made(database: Path, folder: Path, days: int = 0, keep: int = 2) -> Backup:
    return create_backup(database, folder, keep, lambda: NIGHT + days * DAY)


def test_what_the_log_alone_holds_is_in_it_and_what_is_under_way_is_not(database: Path, folder: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as api:
        api.execute("PRAGMA wal_autocheckpoint=0")
        api.execute("UPDATE said SET what = 'newer'")
        api.execute("BEGIN IMMEDIATE")
        api.execute("UPDATE said SET what = 'under way'")
        found = made(database, folder)
        api.execute("COMMIT")
    assert found.file == folder / "footplate-2026-01-31T03-17-00Z.db"
    assert found.size == found.file.stat().st_size and found.removed == ()
    assert (said(found.file), said(database)) == ("newer", "under way")


def test_the_newest_are_kept_and_what_is_nobodys_too(database: Path, folder: Path) -> None:
    (folder / "footplate-by-hand.db").touch()
    removed = [made(database, folder, day).removed for day in range(4)]
    old = [names.name_of(NIGHT + day * DAY) for day in range(4)]
    assert removed == [(), (), (old[0],), (old[1],)]
    assert sorted(os.listdir(folder)) == [*old[2:], "footplate-by-hand.db"]


def test_the_one_that_was_just_made_stays_beside_those_of_a_clock_that_was_ahead(
    database: Path, folder: Path
) -> None:
    ahead = made(database, folder, days=400, keep=1).file.name
    found = made(database, folder, keep=1)
    assert found.removed == (ahead,) and os.listdir(folder) == [found.file.name]


def test_killed_before_any_of_its_calls_it_leaves_no_half_that_counts(database: Path, folder: Path) -> None:
    before = [made(database, folder, day).file.name for day in range(2)]
    left, calls = set(), 0
    for call in count(1):
        if not killed_before(call, lambda: made(database, folder, 2)):
            break
        calls = call
        there = names.backup_names(os.listdir(folder))
        assert len(there) >= len(before), "none goes before there is one more"
        if there[0] not in before:
            verify(folder / there[0])
        left |= set(os.listdir(folder)) - set(there)
        (folder / names.name_of(NIGHT + 2 * DAY)).unlink(missing_ok=True)
        if before[0] not in there:
            (folder / before[0]).hardlink_to(folder / before[1])
    assert calls > 20 and left == {names.name_of(NIGHT + 2 * DAY) + names.PARTIAL}
    assert sorted(os.listdir(folder)) == sorted([before[1], names.name_of(NIGHT + 2 * DAY)]), (
        "what was left behind is gone"
    )
    assert said(database) == "mine"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a volume that is full once the first so many bytes are written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_room_that_ends_in_the_middle(database: Path, folder: Path) -> None:
    earlier = made(database, folder, keep=1)
    with files_of_at_most(3 << 20), pytest.raises(BackupFailed, match="cannot be copied to"):
        made(database, folder, 1, keep=1)
    assert os.listdir(folder) == [earlier.file.name]
    assert made(database, folder, 1, keep=1).removed == (earlier.file.name,)


def test_it_gives_up_before_the_log_takes_the_room_of_the_database(database: Path, folder: Path) -> None:
    left = iter([100 << 20, 30 << 20])  # more than a copy takes, then less than half
    with pytest.raises(InsufficientSpace, match="the copy was aborted to leave space for the database"):
        copy_database(database, folder / "x.partial", lambda _: next(left))
    assert said(database) == "mine"


def test_a_folder_that_is_not_there_is_said(database: Path) -> None:
    with pytest.raises(BackupFailed, match="cannot be copied to") as raised:
        made(database, database.parent / "nowhere")
    assert os.strerror(errno.ENOENT) in str(raised.value)


def test_a_database_that_is_damaged_has_no_back_up(database: Path, folder: Path) -> None:
    said(database)  # which writes the log back
    with database.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)  # the last page: of what was added last
        file.write(b"\xff" * 4096)
    with pytest.raises(BackupFailed, match="damaged"):
        made(database, folder)
    assert os.listdir(folder) == []


def test_no_database_no_back_up(folder: Path) -> None:
    with pytest.raises(BackupFailed, match=r"nothing\.db does not exist"):
        made(folder / "nothing.db", folder)
    assert os.listdir(folder) == ["nothing.db.backup.lock"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        pytest.param(b"", "lacks the schema", id="empty"),
        pytest.param(b"no database at all " * 400, "not a database", id="another-file"),
    ],
)
def test_what_is_no_back_up_is_told(tmp_path: Path, written: bytes, says: str) -> None:
    file = tmp_path / "x.db"
    file.write_bytes(written)
    with pytest.raises(UnusableDatabaseFile, match=says):
        verify(file)


def test_a_database_in_use_is_none(database: Path) -> None:
    with closing(sqlite3.connect(database)) as running:
        running.execute("SELECT * FROM said").fetchall()
        with pytest.raises(UnusableDatabaseFile, match="in use"):
            verify(database)
