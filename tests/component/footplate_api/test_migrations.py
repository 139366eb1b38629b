"""The schema that migrations make is the one that the models describe, on both databases."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any, Final

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from footplate_api.db import migrate, revisions
from footplate_api.db.database import Database
from footplate_api.models import Base

# Names of the triggers that migrations make, by dialect; models do not tell of them.
TRIGGERS: Final = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
}


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def test_migrations_lead_to_the_models(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_an_upgraded_database_is_left_alone(database: Database) -> None:
    await migrate.upgrade(database)
    newest = ScriptDirectory(str(revisions.scripts())).get_current_head()
    async with database.read() as session:
        assert (await session.execute(text("SELECT version_num FROM alembic_version"))).all() == [(newest,)]


async def test_whether_anything_is_to_be_migrated_is_known_beforehand(database: Database) -> None:
    newest = ScriptDirectory(str(revisions.scripts())).get_current_head()
    assert revisions.newest(revisions.scripts()) == await revisions.current(database) == newest


async def test_an_empty_database_has_no_revision(empty_url: str) -> None:
    empty = Database(empty_url)
    assert await revisions.current(empty) is None
    await empty.close()


def test_what_migrates_is_not_loaded_by_who_serves() -> None:
    program = "import sys, footplate_api.__main__; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_an_older_release_starts_on_the_schema_of_a_newer_one(database: Database) -> None:
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await migrate.upgrade(database)
    async with database.read() as session:
        assert (await session.execute(text("SELECT version_num FROM alembic_version"))).all() == [("9999",)]


def test_a_wheel_carries_the_migrations_where_the_program_looks_for_them() -> None:
    project = tomllib.loads((revisions.scripts().parent / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"migrations": "footplate_api/migrations"}
    assert (revisions.scripts() / "env.py").is_file()


async def test_every_migration_can_be_taken_back_and_made_again(empty_url: str) -> None:
    database = Database(empty_url)
    await migrate.upgrade(database)

    async def moved(verb: Callable[[Config, str], None], revision: str) -> None:
        async with database.write(60.0) as session:
            connection = await session.connection()
            await connection.run_sync(lambda sync: verb(migrate.configuration(sync), revision))

    async def triggers() -> set[str]:
        async with database.read() as session:
            return set((await session.execute(text(TRIGGERS[database.engine.dialect.name]))).scalars())

    scripts = ScriptDirectory(str(revisions.scripts())).walk_revisions()  # the newest first
    whole = {}
    for script in scripts:
        whole[script.revision] = await triggers()
        await moved(command.downgrade, "-1")
    assert await triggers() == set() and any(whole.values())
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == {"alembic_version"}
    for revision, made in reversed(whole.items()):
        await moved(command.upgrade, "+1")
        assert await triggers() == made, revision
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


async def test_replicas_that_start_together_do_not_meet(empty_url: str) -> None:
    replicas = [Database(empty_url) for _ in range(3)]
    await asyncio.gather(*(migrate.upgrade(replica) for replica in replicas))
    async with replicas[0].engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    for replica in replicas:
        await replica.close()


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    database = Database(empty_url)
    async with database.write() as session:
        await session.execute(text("CREATE TABLE checkpoints (x INTEGER)"))  # the last of the first migration
    with pytest.raises(DBAPIError, match="already exists"):
        await migrate.upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(tables) == {"checkpoints"}
    await database.close()
