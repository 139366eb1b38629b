"""A restore gives exactly what was backed up, or leaves all as it was, and never loses what it replaces."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from cluster.machine.ports import claim_ports
from footplate_api.backups import restoration
from footplate_api.backups.__main__ import main
from footplate_api.backups.creation import create_backup
from footplate_api.backups.restoration import RestoreResult
from footplate_api.db import revisions
from footplate_api.errors import InsufficientSpace, RestoreRefused, UnusableDatabaseFile
from footplate_contracts.names import ExitCode
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.histories import FILLED, dump, holding, said, set_revision
from tests.component.footplate_api.test_process import client, ready, serving
from tests.support.killed import killed_before

NOW = datetime(2026, 2, 1, 9, tzinfo=UTC)
KNOWN = revisions.list_revisions(revisions.scripts())


@pytest.fixture
def backup(migrated_file: Path, tmp_path: Path) -> Path:
    """A back-up of a database that said `then`."""
    there = holding(migrated_file, tmp_path / "earlier" / "footplate.db", "then")
    (tmp_path / "backups").mkdir()
    return create_backup(there, tmp_path / "backups", 1, lambda: NOW).file


@pytest.fixture
def database(migrated_file: Path, tmp_path: Path) -> Path:
    """One that says `now`."""
    return holding(migrated_file, tmp_path / "data" / "footplate.db", "now")


def restored(backup: Path, database: Path) -> RestoreResult:
    return restoration.restore(backup, database, KNOWN, datetime.now(UTC), replace=True)


def test_exactly_what_was_backed_up(backup: Path, database: Path) -> None:
    done = restored(backup, database)
    assert done.revision == max(KNOWN)
    assert dump(database) == dump(backup)
    assert done.kept is not None and said(done.kept) == "now", "what its log alone held, too"
    assert {path.name for path in database.parent.iterdir()} == {"footplate.db", done.kept.name}


def test_where_there_is_none_yet(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    database = tmp_path / "new" / "footplate.db"
    assert restoration.restore(backup, database, KNOWN, NOW).kept is None
    assert said(database) == "then"


def test_a_log_without_its_database_is_not_applied(backup: Path, database: Path) -> None:
    database.unlink()
    assert restored(backup, database).kept is None
    assert said(database) == "then"
    [kept] = database.parent.glob("*.before-*-wal")
    assert kept.stat().st_size > 0


def test_one_that_is_damaged_is_replaced_and_kept_as_it_is(backup: Path, database: Path) -> None:
    database.write_bytes(b"no database at all " * 4000)
    log = database.with_name("footplate.db-wal").read_bytes()
    done = restored(backup, database)
    assert said(database) == "then"
    assert done.kept is not None and done.kept.read_bytes() == b"no database at all " * 4000
    assert done.kept.with_name(f"{done.kept.name}-wal").read_bytes() == log


def test_killed_before_any_of_its_calls_it_leaves_the_one_or_the_other(
    backup: Path, database: Path, tmp_path: Path
) -> None:
    pristine = shutil.copytree(database.parent, tmp_path / "pristine")
    found = []
    for call in count(1):
        if not killed_before(call, lambda: restored(backup, database)):
            break
        kept = [path for path in database.parent.glob("*.before-*") if not path.name.endswith("-wal")]
        found.append(said(database))
        assert found[-1] == "now" or [said(path) for path in kept] == ["now"]
        restored(backup, database)
        assert said(database) == "then"
        shutil.rmtree(database.parent)
        shutil.copytree(pristine, database.parent)
    assert len(found) > 20 and found == sorted(found), "once it is the other, it stays so"
    assert set(found) == {"now", "then"}


REFUSED = "restore it with the image of that release"


def test_an_older_schema_is_taken_and_a_newer_one_is_not(backup: Path, database: Path) -> None:
    before = dump(database)
    set_revision(backup, "9999")
    with pytest.raises(RestoreRefused, match=rf"schema 9999 of a newer release.*{max(KNOWN)}: {REFUSED}"):
        restored(backup, database)
    assert dump(database) == before
    set_revision(backup, min(KNOWN))
    assert restored(backup, database).revision == min(KNOWN)


def test_a_newer_schema_that_this_release_works_with_already_is_taken(backup: Path, database: Path) -> None:
    """As after a roll-back by a release: what it backed up then has the newer schema, too."""
    for file in (backup, database):
        set_revision(file, "9999")
    assert restored(backup, database).revision == "9999"


def test_not_without_a_word(backup: Path, database: Path) -> None:
    with pytest.raises(RestoreRefused, match="exists already: pass --replace"):
        restoration.restore(backup, database, KNOWN, NOW)
    assert said(database) == "now"


def test_a_damaged_back_up_replaces_nothing(backup: Path, database: Path) -> None:
    with backup.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xff" * 4096)
    with pytest.raises(UnusableDatabaseFile, match="damaged"):
        restored(backup, database)
    assert said(database) == "now"
    assert [path.name for path in database.parent.iterdir()] == ["footplate.db"]


def test_without_room_all_stays(backup: Path, database: Path) -> None:
    with backup.open("r+b") as file:
        file.truncate(1 << 43)  # of which a file system keeps nothing
    with pytest.raises(InsufficientSpace, match=r"bytes free, but \d+ are needed"):
        restored(backup, database)
    assert said(database) == "now"


# -- the command ---------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, backup: Path, tmp_path: Path) -> str:
    """The URL of a database, for which the environment of this process is set."""
    url = f"sqlite:///{tmp_path}/data/footplate.db"
    monkeypatch.setenv("FOOTPLATE_DATABASE_URL", url)
    monkeypatch.setenv("FOOTPLATE_BACKUP_FOLDER", str(backup.parent))
    return url


def test_a_backup_of_a_development_version_is_refused(backup: Path, database: Path) -> None:
    set_revision(backup, "0015")
    with pytest.raises(RestoreRefused, match=r"development version \(revision 0015\)"):
        restored(backup, database)
    assert said(database) == "now"


async def test_once_is_once_until_nobody_asks_any_more(
    command: str, backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["restore", backup.name, "--replace", "--once"]
    assert main(ask) == main(ask) == ExitCode.SUCCESS
    assert "was restored before and is not restored again" in capsys.readouterr().out
    database = tmp_path / "data" / "footplate.db"
    assert not list(database.parent.glob("*.before-*"))

    async def life(**variables: str) -> None:
        [port] = claim_ports(1)
        with serving(tmp_path, port, command, **variables) as process:
            async with client(port) as probe:
                await eventually(lambda: ready(probe), bool, seconds=60)
                assert main(ask) == ExitCode.CONFIG
                assert "is in use by another process" in capsys.readouterr().err
            process.terminate()
            process.wait(30)

    await life(FOOTPLATE_RESTORE_FROM=backup.name)
    main(ask)
    assert "is not restored again" in capsys.readouterr().out
    await life()
    main(ask)
    assert "the previous database is now" in capsys.readouterr().out
    assert said(database) == "then"


def test_without_a_name_a_pod_goes_on_with_what_it_has(
    tmp_path: Path, backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "", "--replace", "--once"]) == ExitCode.SUCCESS
    assert capsys.readouterr().out == "FILE is empty: nothing is restored\n"
    assert not (tmp_path / "data" / "footplate.db").exists()
    assert main(["restore", "", "--replace"]) == ExitCode.USER_ERROR
    assert "is not an existing file" in capsys.readouterr().err


def test_a_name_that_is_none_tells_those_there_are(
    command: str, backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "footplate.db"]) == ExitCode.USER_ERROR
    assert f"has: {backup.name}" in capsys.readouterr().err
    assert main(["list"]) == main(["verify", backup.name]) == ExitCode.SUCCESS
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{backup.name}  ") and int(shown[0].split()[1]) > FILLED
    assert shown[1] == f"{backup} is intact, schema {max(KNOWN)}"
