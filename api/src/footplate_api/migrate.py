"""Brings the database to the newest schema at start-up, one process at a time.

Two replicas may start together, and a roll-out runs old code beside new: so the
whole upgrade is one transaction under one lock, and a release only *expands*
(new tables, nullable columns, indexes); what is no longer used is *contracted*
a release later. A released migration is never edited. So a schema that a newer
release made is left as it is: an older one that is started again works with it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from footplate_api.database import Database

log = logging.getLogger(__name__)

_ADVISORY_LOCK: Final = 0x666F6F74  # "foot": any constant that nobody else uses


def scripts() -> Path:
    """The folder of the migrations: inside an installed package, beside src/ in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "migrations"
    return installed if installed.is_dir() else here.parents[1] / "migrations"


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for work on `connection`."""
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def upgrade(database: Database, revision: str = "head") -> None:
    """Applies what is missing up to `revision`; waits while another process does so."""
    async with database.write() as session:
        if database.engine.dialect.name == "postgresql":
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        connection = await session.connection()
        await connection.run_sync(lambda sync: _upgrade(sync, revision))


def _upgrade(connection: Connection, revision: str) -> None:
    config = configuration(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        log.warning("the schema %s is a newer release's; it is left as it is", current)
        return
    command.upgrade(config, revision)
