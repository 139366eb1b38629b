"""Migrates the database to the newest schema at start-up, one process at a time.

`python -m footplate_api.db.migrate --scripts FOLDER` migrates FOOTPLATE_DATABASE_URL, for a parent that reads
its progress from stdout (`MigrationReport`, a line each); it ends with that parent.

Two replicas may start together, and a roll-out runs old code beside new: so the whole upgrade is one
transaction under one lock, and a release only *expands* (new tables, nullable columns, indexes); the next
release *contracts* what is no longer used. A released migration is never edited. So a schema of a newer
release is left as it is: an older release that is started again works with it. A schema of a development
version, older than the first release, is refused.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import threading
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

from footplate_api.db.database import Database, is_unreachable
from footplate_api.db.revisions import DATABASE_URL, MigrationReport, check_supported, scripts
from footplate_api.errors import DatabaseUnavailable, catch
from footplate_contracts import logs

log = logging.getLogger(__name__)

ADVISORY_LOCK: Final = 0x666F6F74  # "foot": any constant that nobody else uses


def configuration(connection: Connection, folder: Path | None = None) -> Config:
    """Return Alembic's configuration for `connection`, with the migrations of `folder`."""
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
    """Apply the missing migrations up to `revision`; wait while another process does so.

    Args:
        scripts: the folder of the migrations, where it is not this release's.
        begun: callback, called once the database has answered.

    Raises DatabaseUnavailable, MigrationFailed for a development version's database, and whatever a
    migration raises; then the database is as it was.
    """
    async with _transaction(database) as connection:
        begun()
        if connection.dialect.name == "postgresql":
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        await connection.run_sync(lambda sync: _upgrade(sync, revision, scripts))


@asynccontextmanager
async def _transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    """Begin a transaction without a timeout, committed when the block ends without an exception."""
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
        if not is_unreachable(error):
            raise
        raise DatabaseUnavailable("The database does not answer; nothing was stored.") from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, revision: str, folder: Path | None) -> None:
    config = configuration(connection, folder)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    check_supported(current, known, connection.engine.url)
    if current is not None and current not in known:
        log.warning("the schema %s is of a newer release; it stays unchanged", current)
        return
    command.upgrade(config, revision)


def main(argv: list[str] | None = None) -> int:
    """Migrate the database; return 1 if that failed, for the reason reported on stdout."""
    parser = argparse.ArgumentParser(prog="python -m footplate_api.db.migrate", description=__doc__)
    parser.add_argument("--scripts", type=Path, default=scripts(), help="folder of the migration scripts")
    chosen = parser.parse_args(argv)
    logs.configure("footplate_api", log_format=logs.format_of(os.environ))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return asyncio.run(_main(os.environ[DATABASE_URL], chosen.scripts))


async def _main(url: str, folder: Path) -> int:
    database = Database(url)
    try:
        error = await catch(
            lambda: upgrade(database, scripts=folder, begun=lambda: _say(MigrationReport(begun=True)))
        )
    finally:
        await database.close()
    if isinstance(error, DatabaseUnavailable):
        _say(MigrationReport(unavailable=str(error.__cause__ or error)))
    elif error is not None:
        log.error("the migration failed", exc_info=error)
        _say(MigrationReport(failed=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"))
    return int(error is not None)


def _say(what: MigrationReport) -> None:
    print(what.model_dump_json(exclude_defaults=True), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 1):  # which ends with whoever holds the other end of stdin
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
