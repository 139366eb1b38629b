"""A volume without room: it is said, reads go on, senders keep their rows, and all of it mends itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from cluster.machine.ports import claim_ports
from footplate_api.db.database import Database
from footplate_api.errors import DatabaseFull
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.test_process import client, command, elsewhere, ended, ready
from tests.support.review_server import of_pod, reviewing

SENDER = of_pod("uid-gpt", "research")
VOLUME = 6 * 1024 * 1024
FILLER = 3 * 1024 * 1024


@asynccontextmanager
async def on_a_tiny_volume(
    folder: Path, there: Path | None = None, **variables: str
) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """A client of an API whose database lies on a volume of its own, and the volume as seen from here.

    It is mounted at `data` in the folder, with a copy of the database `there`; `variables` may put something
    else there.
    """
    [port] = claim_ports(1)
    volume = folder / "data"
    volume.mkdir()
    mount = f"mount -t tmpfs -o size={VOLUME} none {volume} && head -c {FILLER} /dev/zero > {volume}/filler"
    if there is not None:
        mount += f" && cp {there} {volume}"
    environment = {**elsewhere(), "FOOTPLATE_DATABASE_URL": f"sqlite:///{volume}/footplate.db", **variables}
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    with (
        reviewing(folder) as kubeconfig,
        ended(subprocess.Popen(apart + command(folder, port, kubeconfig), env=environment)) as process,
    ):
        async with client(port) as caller:

            async def up() -> bool:
                return process.poll() is not None or await ready(caller)

            await eventually(up, bool, seconds=30)
            if process.poll() is not None:
                pytest.skip("this kernel lets no user mount a volume")
            yield caller, Path(f"/proc/{process.pid}/root{volume}")


async def fill(caller: httpx.AsyncClient) -> tuple[int, httpx.Response]:
    """Sends until there is no room; how many batches were stored, and the answer to the next one."""
    for number in range(200):
        rows = [row(step) for step in range(100 * number + 1, 100 * number + 101)]
        answer = await caller.post(f"{RUNS}/gpt/telemetry", json=batch("uid-gpt", rows), headers=SENDER)
        if answer.status_code != 200:
            return number, answer
    raise AssertionError("the volume was never full")


async def readiness(caller: httpx.AsyncClient) -> Any:
    answer = await caller.get("/readyz")
    return answer.status_code, answer.json()["database"]


async def test_a_full_volume_is_said_and_mends_itself(migrated_file: Path, tmp_path: Path) -> None:
    async with on_a_tiny_volume(tmp_path, migrated_file) as (caller, volume):
        assert await readiness(caller) == (200, "ok")
        stored, refused = await fill(caller)
        assert (refused.status_code, refused.json()["title"]) == (503, "Database full")
        assert int(refused.headers["Retry-After"]) > 0
        assert await readiness(caller) == (200, "full")
        assert "footplate_api_database_full 1.0" in (await caller.get("/metrics")).text
        assert (await caller.get(RUNS)).status_code == 200
        os.unlink(volume / "filler")
        rows = [row(step) for step in range(100 * stored + 1, 100 * stored + 101)]
        answer = await caller.post(f"{RUNS}/gpt/telemetry", json=batch("uid-gpt", rows), headers=SENDER)
        assert answer.status_code == 200
        assert await readiness(caller) == (200, "ok")
        assert "footplate_api_database_full 0.0" in (await caller.get("/metrics")).text


ROOMY = "PRAGMA max_page_count = 1000000"
NO_ROOM = {
    "sqlite": ("PRAGMA max_page_count = 1", "INSERT INTO full_test VALUES (2, zeroblob(1000000))"),
    "postgresql": ("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$",),
}


async def test_a_write_of_nothing_does_not_say_that_there_is_room(database: Database) -> None:
    async def write(*statements: str) -> None:
        async with database.write() as session:
            for statement in statements:
                await session.execute(text(statement))

    kind = database.engine.dialect.name
    await write("CREATE TABLE full_test (number INTEGER, value BYTEA)")
    with pytest.raises(DatabaseFull):
        await write(*NO_ROOM[kind])
    assert database.full
    await write("DELETE FROM full_test")
    assert database.full
    await write(*([ROOMY] if kind == "sqlite" else []), "INSERT INTO full_test (number) VALUES (1)")
    assert database.full is None
