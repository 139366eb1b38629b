"""`python -m footplate_api.backups`: creates, lists, verifies and restores backups of the SQLite file.

The API runs it on schedule as a separate process: copying and verifying a gigabyte needs neither the API's
event loop nor its memory. Run by hand in the API's pod, it does the same beside the API.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from footplate_api.backups import restoration
from footplate_api.backups.creation import create_backup
from footplate_api.backups.files import list_backups
from footplate_api.backups.integrity import verify
from footplate_api.db.backup_plan import BackupPlan
from footplate_api.errors import BackupFailed, InsufficientSpace, RestoreRefused, UnusableDatabaseFile
from footplate_api.settings import ApiSettings
from footplate_contracts import environment
from footplate_contracts.names import ExitCode

_NICE: Final = 10  # while it is verified: the API's own work comes first


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m footplate_api.backups",
        description="Back-ups of the SQLite file that FOOTPLATE_DATABASE_URL names.",
        epilog="Environment: FOOTPLATE_DATABASE_URL, FOOTPLATE_BACKUP_FOLDER, FOOTPLATE_BACKUP_KEEP.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("make", help="create a back-up, also while the API runs, and delete the oldest ones")
    verbs.add_parser("list", help="list the back-ups, newest first")
    checked = verbs.add_parser("verify", help="check a back-up for damage and print its schema")
    restored = verbs.add_parser("restore", help="replace the database by a back-up; the API must not run")
    for parser_of_verb in (checked, restored):
        parser_of_verb.add_argument("file", help="name of the back-up in FOOTPLATE_BACKUP_FOLDER, or a path")
    restored.add_argument("--replace", action="store_true", help="rename an existing database first")
    restored.add_argument(
        "--once",
        action="store_true",
        help="do nothing if FILE is empty or was restored already, as a pod may start twice",
    )
    return parser.parse_args(argv)


def _database(settings: ApiSettings) -> Path:
    """Return the SQLite file; raises ValueError if the URL names none."""
    if settings.database_file is None:
        raise ValueError("FOOTPLATE_DATABASE_URL names no SQLite file; other databases have no back-ups here")
    return settings.database_file


def _plan(settings: ApiSettings) -> BackupPlan:
    """Return the settings; raises ValueError if no folder is set, or the database is no file."""
    if settings.backups is None:
        raise ValueError("FOOTPLATE_BACKUP_FOLDER is not set; set it to the folder of the back-ups")
    return settings.backups


def _named(settings: ApiSettings, file: str) -> Path:
    """Return the path of a backup, given its name or its path. Raises UnusableDatabaseFile."""
    folder = settings.backup_folder
    found = folder / file if folder is not None and "/" not in file else Path(file)
    if found.is_file():
        return found
    there = list_backups(found.parent) if found.parent.is_dir() else []
    raise UnusableDatabaseFile(
        f"{found} is not an existing file; {found.parent} has: {', '.join(there) or 'no back-up'}"
    )


def _make(settings: ApiSettings) -> str:
    plan = _plan(settings)
    # The copy has the priority of the API: the longer it takes, the longer grows the write-ahead log.
    made = create_backup(
        _database(settings), plan.folder, plan.keep, lambda: datetime.now(UTC), lambda: os.nice(_NICE)
    )
    removed = f", removed {', '.join(made.removed)}" if made.removed else ""
    return f"{made.file}: {made.size} bytes, schema {made.revision}, verified{removed}"


def _list(settings: ApiSettings) -> str:
    folder = _plan(settings).folder
    found = [folder / name for name in list_backups(folder)]
    return "\n".join(f"{file.name}  {file.stat().st_size} bytes" for file in found) or "no back-up exists"


def _restore(settings: ApiSettings, file: str, replace: bool, once: bool) -> str:
    # Imported here, as they take 10 MB, which making one need not spend.
    from footplate_api.db.database_lock import sole_writer
    from footplate_api.db.revisions import list_revisions, scripts

    database = _database(settings)
    database.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(settings.database_url):
        if once and restoration.was_restored(database, file):
            return f"{file} was restored before and is not restored again: clear api.backup.restoreFrom"
        found = _named(settings, file)
        done = restoration.restore(
            found, database, list_revisions(scripts()), datetime.now(UTC), replace=replace
        )
        if once:
            restoration.record_restore(database, file)
    kept = f"; the previous database is now {done.kept}" if done.kept is not None else ""
    return f"{database} was restored from {found}, schema {done.revision}{kept}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 78 for a configuration that no retry mends, or 1 for any other failure."""
    chosen = _arguments(argv)
    try:
        settings = environment.read_settings(ApiSettings)
        match chosen.verb:
            case "make":
                print(_make(settings))
            case "list":
                print(_list(settings))
            case "verify":
                found = _named(settings, chosen.file)
                print(f"{found} is intact, schema {verify(found)}")
            case _ if chosen.once and not chosen.file:
                print("FILE is empty: nothing is restored")
            case _:
                print(_restore(settings, chosen.file, chosen.replace, chosen.once))
    except ValueError as error:
        print(f"footplate-api: {error}", file=sys.stderr)
        return ExitCode.CONFIG
    except (BackupFailed, InsufficientSpace, RestoreRefused, UnusableDatabaseFile, OSError) as error:
        print(f"footplate-api: {error}", file=sys.stderr)
        return ExitCode.USER_ERROR
    return ExitCode.SUCCESS


if __name__ == "__main__":
    sys.exit(main())
