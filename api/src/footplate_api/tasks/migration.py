"""Migrates the database to this release's schema while the process already answers probes.

The process waits for a database that is away: it comes back by itself, or an administrator repairs it, and a
process that ended for it would only be started again. A migration that fails needs an administrator: the
process ends and reports why.

A migration may compute for minutes between two statements, and Kubernetes ends a process that answers no
probe meanwhile. So it runs in a process of its own, which also returns the memory that it needed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Final

from footplate_api.db import revisions
from footplate_api.db.database import Database
from footplate_api.db.revisions import MigrationReport
from footplate_api.errors import DatabaseUnavailable, MigrationFailed, catch
from footplate_api.http.startup import Startup, StartupStage
from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields

FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


async def ensure_schema(database: Database, scripts: Path, startup: Startup) -> bool:
    """Migrate `database` to the schema of `scripts`, reporting to `startup`; return whether it succeeded."""
    tries = 0
    while True:
        error = await catch(partial(_migrate, database, scripts, startup))
        match error:
            case None:
                startup.mark_ready()
                return True
            case DatabaseUnavailable():
                startup.enter(StartupStage.CONNECTING)
                tries += 1
                log.warning("the database does not answer", extra=log_fields(error=error.__cause__))
                first, longest = FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS
                await asyncio.sleep(backoff_seconds(tries, first=first, longest=longest, factor=1.5))
            case MigrationFailed():
                startup.mark_failed(error)
                return False
            case _:
                log.error("the migration failed", exc_info=error)
                said = str(error).partition("\n")[0]
                startup.mark_failed(_failure(f"{type(error).__name__}: {said}"))
                return False


async def _migrate(database: Database, scripts: Path, startup: Startup) -> None:
    current = await revisions.current(database)
    revisions.check_supported(current, revisions.list_revisions(scripts), database.engine.url)
    if current != revisions.newest(scripts):
        await _upgrade(database, scripts, startup)
    await _open(database)


async def _open(database: Database) -> None:
    """Connect before all other work begins: a task that is cancelled while it connects can delay the end."""
    await database.ping()
    async with database.write() as session:
        await session.connection()


async def _upgrade(database: Database, scripts: Path, startup: Startup) -> None:
    """Run the migration in a child process.

    Raises DatabaseUnavailable, or MigrationFailed; then the database is as it was.
    """
    url = database.engine.url.render_as_string(hide_password=False)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "footplate_api.db.migrate", "--scripts", str(scripts)),
        env={**os.environ, revisions.DATABASE_URL: url},
        stdin=asyncio.subprocess.PIPE,  # which ends with this process, however it ends
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    last = MigrationReport()
    try:
        async for line in child.stdout:
            last = MigrationReport.model_validate_json(line)
            if last.begun:
                startup.enter(StartupStage.MIGRATING)
        code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if last.unavailable:
        raise DatabaseUnavailable("The database does not answer; nothing was stored.") from OSError(
            last.unavailable
        )
    if code:
        raise _failure(last.failed or f"the migration process exited with code {code}")


def _failure(why: str) -> MigrationFailed:
    return MigrationFailed(f"the database cannot be migrated: {why}; it is unchanged")
