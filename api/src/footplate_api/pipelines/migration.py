"""Brings the database to this release's schema while the process answers probes already.

A database that is away is waited for: it comes back by itself, or somebody mends it, and a
process that ends for it would only be started again. A migration that fails is nobody's to
wait for: the process ends and says why.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import Final

from footplate_api import migrate
from footplate_api.apart import apart
from footplate_api.database import Database
from footplate_api.errors import DatabaseUnavailable, MigrationFailed
from footplate_api.pipelines.labelling import Labelling
from footplate_api.startup import Stage, Startup
from footplate_contracts.backoff import backoff
from footplate_contracts.logs import fields

FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


async def bring_up(database: Database, scripts: Path, startup: Startup) -> bool:
    """Whether `database` has the schema of `scripts` now; `startup` is told of each stage."""
    url = database.engine.url.render_as_string(hide_password=False)
    tries = 0
    while True:
        try:
            await apart(partial(_upgrade, url, scripts, startup))
            await _open(database)
            await Labelling(database).catch_up()
        except DatabaseUnavailable as error:
            startup.enter(Stage.CONNECTING)
            tries += 1
            log.warning("the database does not answer", extra=fields(error=error.__cause__))
            await asyncio.sleep(
                backoff(tries, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS, factor=1.5)
            )
        except Exception as error:  # the edge of the task: whatever it is, there is no schema to serve
            log.exception("the migration failed")
            said = str(error).partition("\n")[0]
            failure = MigrationFailed(
                f"the database cannot be migrated: {type(error).__name__}: {said}; it is as it was before"
            )
            startup.fail(failure)
            return False
        else:
            startup.serve()
            return True


async def _open(database: Database) -> None:
    """Connect before all other work begins: whatever is cancelled while it connects can hold up the end."""
    await database.ping()
    async with database.write() as session:
        await session.connection()


async def _upgrade(url: str, scripts: Path, startup: Startup) -> None:
    database = Database(url)
    try:
        await migrate.upgrade(database, scripts=scripts, begun=partial(startup.enter, Stage.MIGRATING))
    finally:
        await database.close()
