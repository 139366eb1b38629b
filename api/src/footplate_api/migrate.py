"""Brings the database to the newest schema at start-up, one process at a time.

Two replicas may start together, and a roll-out runs old code beside new: so the
whole upgrade is one transaction under one lock, and a release only *expands*
(new tables, nullable columns, indexes); what is no longer used is *contracted*
a release later. A released migration is never edited. So a schema that a newer
release made is left as it is: an older one that is started again works with it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from asyncpg import PostgresError  # type: ignore[import-untyped]  # ships no types
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from footplate_api.database import Database, unavailable
from footplate_api.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

ADVISORY_LOCK: Final = 0x666F6F74  # "foot": any constant that nobody else uses


def scripts() -> Path:
    """The folder of the migrations: inside an installed package, beside src/ in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "migrations"
    return installed if installed.is_dir() else here.parents[1] / "migrations"


def configuration(connection: Connection, folder: Path | None = None) -> Config:
    """Alembic's configuration for work on `connection`, with the migrations of `folder`."""
    config = Config()
    config.set_main_option("script_location", str(folder or scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def upgrade(
    database: Database,
    revision: str = "head",
    *,
    scripts: Path | None = None,
    begun: Callable[[], None] = lambda: None,
) -> None:
    """Applies what is missing up to `revision`; waits while another process does so.

    Args:
        scripts: the folder of the migrations, where it is not this release's.
        begun: is called once the database has answered.

    Raises DatabaseUnavailable, and whatever a migration raises; then the database is as it was.
    """
    async with _transaction(database) as connection:
        begun()
        if connection.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        await connection.run_sync(lambda sync: _upgrade(sync, revision, scripts))


@asynccontextmanager
async def _transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    """One that is committed when the block ends without an exception, and that may take any time."""
    if database.engine.dialect.name != "postgresql":
        async with database.write() as session:
            yield await session.connection()
        return
    # Of its own: what bounds a request's statements would cut a migration off.
    engine = create_async_engine(database.engine.url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            yield connection
    except (DBAPIError, OSError, PostgresError) as error:
        if not unavailable(error):
            raise
        raise DatabaseUnavailable("The database does not answer; nothing was stored.") from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, revision: str, folder: Path | None) -> None:
    config = configuration(connection, folder)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        log.warning("the schema %s is a newer release's; it is left as it is", current)
        return
    command.upgrade(config, revision)
