"""The API answers probes from its first moment, whatever its database keeps it waiting for."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from footplate_api.db import migrate, revisions
from footplate_api.db.database import Database
from footplate_api.errors import MigrationFailed
from footplate_api.settings import with_driver
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.conftest import Api, starting
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.postgres import Server

# One that computes and waits, as one does that rewrites a table row by row, until a file is there.
SLOW = """
import pathlib, time
from alembic import op

revision, down_revision = "9000", "{head}"
branch_labels = depends_on = None

def upgrade():
    op.execute("CREATE TABLE slow (x INTEGER)")
    pathlib.Path("{folder}/begun").touch()
    while not pathlib.Path("{folder}/enough").exists():
        time.sleep(0.01)
{end}
"""


def slow_migrations(folder: Path, end: str = "") -> Path:
    """This release's migrations and a slow one; `end` is its last statement."""
    scripts = folder / "migrations"
    shutil.copytree(revisions.scripts(), scripts)
    head = ScriptDirectory(str(scripts)).get_current_head()
    slow = SLOW.format(head=head, folder=folder, end=f"    {end}")
    (scripts / "versions" / "9000_slow.py").write_text(slow)
    return scripts


async def exists(file: Path) -> None:
    """Wait until `file` is there."""
    async with asyncio.timeout(30):
        while not file.exists():
            await asyncio.sleep(0.01)


async def readiness(api: Api) -> tuple[int, dict[str, Any]]:
    answer = await api.client.get("/readyz")
    return answer.status_code, answer.json()


def migrating(answer: tuple[int, dict[str, Any]]) -> bool:
    return answer[0] == 503 and "migration of the database, in this" in answer[1]["detail"]


async def ready(api: Api) -> None:
    await eventually(lambda: readiness(api), lambda answer: answer[0] == 200, seconds=30)


async def test_probes_are_answered_while_a_migration_lasts(empty_url: str, tmp_path: Path) -> None:
    async with starting(empty_url, FakeCluster(), slow_migrations(tmp_path)) as api:
        await exists(tmp_path / "begun")
        for path in ("/healthz", "/version"):
            answer = await asyncio.wait_for(api.client.get(path), 1)
            assert answer.status_code == 200
        answer = await api.client.get("/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"] == "urn:footplate:problem:starting"
        assert "The migration of the database," in problem["detail"] and " s so far" in problem["detail"]
        sent = await api.client.post(f"{RUNS}/gpt/telemetry", json=batch("uid", [row(1)]))
        others = [sent, *[await api.client.get(path) for path in (RUNS, "/metrics", "/no/such/page")]]
        assert {(other.status_code, other.headers["retry-after"]) for other in others} == {(503, "5")}
        (tmp_path / "enough").touch()
        await ready(api)
        assert (await api.client.get(RUNS)).json() == {"items": [], "nextCursor": None}
        assert "footplate_api_requests_total" in (await api.client.get("/metrics")).text
        async with api.context.database.read() as session:
            assert (await session.execute(text("SELECT count(*) FROM slow"))).scalar_one() == 0


async def test_a_migration_that_fails_ends_the_start_and_leaves_nothing(
    empty_url: str, tmp_path: Path
) -> None:
    failing = slow_migrations(tmp_path, end="raise RuntimeError('row 7 is odd')")
    (tmp_path / "enough").touch()
    async with starting(empty_url, FakeCluster(), failing) as api:
        await asyncio.wait_for(api.context.startup.wait(), 30)
        assert isinstance(api.context.startup.failure, MigrationFailed)
        assert "RuntimeError: row 7 is odd" in str(api.context.startup.failure)
        status, problem = await readiness(api)
        assert status == 503 and "failed" in problem["detail"]
        assert (await api.client.get("/healthz")).status_code == 200
    async with starting(empty_url, FakeCluster()) as api:
        await ready(api)
        with pytest.raises(Exception, match="slow"):
            async with api.context.database.read() as session:
                await session.execute(text("SELECT * FROM slow"))


async def test_a_database_of_a_development_version_is_refused_by_name(database_url: str) -> None:
    there = Database(database_url)
    async with there.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '0015'"))
    name = there.engine.url.database
    removal = (
        f"delete the files {name}*" if database_url.startswith("sqlite") else f"drop the database {name}"
    )
    said = f"the database holds tables of a development version (revision 0015): {removal} and restart"
    with pytest.raises(MigrationFailed, match=re.escape(said)):
        await migrate.upgrade(there)
    async with starting(database_url, FakeCluster()) as api:
        await asyncio.wait_for(api.context.startup.wait(), 30)
        assert str(api.context.startup.failure) == said
        assert (await readiness(api))[0] == 503
    assert await revisions.current(there) == "0015"
    await there.close()


async def test_a_migration_whose_process_is_killed_ends_the_start(empty_url: str, tmp_path: Path) -> None:
    killed = slow_migrations(tmp_path, end="__import__('os').kill(__import__('os').getpid(), 9)")
    (tmp_path / "enough").touch()
    async with starting(empty_url, FakeCluster(), killed) as api:
        await asyncio.wait_for(api.context.startup.wait(), 30)
        assert "exited with code -9; it is unchanged" in str(api.context.startup.failure)
    async with starting(empty_url, FakeCluster()) as api:
        await ready(api)


async def test_a_process_that_is_ended_in_mid_migration_leaves_nothing(
    empty_url: str, tmp_path: Path
) -> None:
    process = starting(empty_url, FakeCluster(), slow_migrations(tmp_path))
    await process.__aenter__()
    await exists(tmp_path / "begun")
    [working] = [task for task in asyncio.all_tasks() if task.get_name() == "work"]
    leaving = asyncio.create_task(process.__aexit__(None, None, None))
    for _ in range(20):  # turns of this loop, until its child is told
        await asyncio.sleep(0)
    assert working.cancelling()
    (tmp_path / "enough").touch()
    await asyncio.wait_for(leaving, 30)
    async with starting(empty_url, FakeCluster()) as api:
        await ready(api)
        with pytest.raises(Exception, match="slow"):
            async with api.context.database.read() as session:
                await session.execute(text("SELECT * FROM slow"))


async def test_waiting_for_another_replicas_migration_counts_as_migrating(postgres: Server) -> None:
    url = with_driver(postgres.empty())
    other = Database(url)
    async with other.engine.begin() as holding:
        await holding.execute(text(f"SELECT pg_advisory_xact_lock({migrate.ADVISORY_LOCK})"))
        async with starting(url, FakeCluster()) as api:
            answer = await eventually(
                lambda: readiness(api), lambda answer: "migration of" in answer[1]["detail"]
            )
            assert answer[0] == 503
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 5  # it can be ended meanwhile
        async with starting(url, FakeCluster()) as api:
            await eventually(lambda: readiness(api), migrating)
            await holding.rollback()
            await ready(api)
    await other.close()


async def test_a_database_that_is_away_at_the_start_is_waited_for(postgres: Server) -> None:
    url = with_driver(postgres.empty())
    postgres.stop()
    try:
        async with starting(url, FakeCluster()) as api:
            status, problem = await readiness(api)
            assert (status, problem["title"]) == (503, "Starting")
            assert "The database does not answer yet" in problem["detail"]
            assert (await api.client.get("/healthz")).status_code == 200
            postgres.start()
            await ready(api)
            assert (await api.client.get(RUNS)).status_code == 200
    finally:
        postgres.stop()
        postgres.start()


async def test_a_file_that_somebody_else_writes_is_waited_for(tmp_path: Path) -> None:
    url = with_driver(f"sqlite:///{tmp_path}/footplate.db")
    other = Database(url)
    async with other.write() as session:
        await session.execute(text("CREATE TABLE theirs (x INTEGER)"))
        async with starting(url, FakeCluster()) as api:
            assert (await readiness(api))[0] == 503
            await session.commit()
            await ready(api)
    await other.close()
