"""Schema revisions: those that this release knows, by its migrations' file names, and the database's.

Nothing here needs Alembic, which takes 10 MB of memory: a process whose database is at the newest schema
never loads it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError

from footplate_api.db.database import Database
from footplate_api.errors import MigrationFailed

DATABASE_URL: Final = "FOOTPLATE_DATABASE_URL"


class MigrationReport(BaseModel):
    """Progress line that the migrating process (`footplate_api.db.migrate`) sends to its parent."""

    begun: bool = False  # the database has answered
    unavailable: str = ""  # it does not answer, and why; nothing was changed
    failed: str = ""  # what went wrong, by its type and a sentence; nothing was changed


def scripts() -> Path:
    """Return the folder of the migrations: inside an installed package, beside src/ in a checkout."""
    here = Path(__file__).resolve().parents[1]
    installed = here / "migrations"
    return installed if installed.is_dir() else here.parents[1] / "migrations"


def list_revisions(folder: Path) -> frozenset[str]:
    """Return the revisions of the migrations in `folder`, whose files are `<revision>_<what>.py`."""
    return frozenset(path.name.partition("_")[0] for path in (folder / "versions").glob("[0-9]*_*.py"))


def newest(folder: Path) -> str:
    """Return the newest revision of the migrations in `folder`."""
    return max(list_revisions(folder))


def check_supported(revision: str | None, known: Collection[str], url: URL) -> None:
    """Raise MigrationFailed if the database at `url` has the tables of a development version.

    Its revision is older than all of this release, which `known` lists.
    """
    if revision is not None and revision < min(known):
        is_file = url.get_backend_name() == "sqlite"
        removal = f"delete the files {url.database}*" if is_file else f"drop the database {url.database}"
        raise MigrationFailed(
            f"the database holds tables of a development version (revision {revision}): {removal} and restart"
        )


async def current(database: Database) -> str | None:
    """Return the database's revision, None if it has none; raises DatabaseUnavailable."""
    try:
        async with database.read() as session:
            found: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
    except DBAPIError:  # there is no such table
        return None
    return found
