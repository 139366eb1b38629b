"""A body that does not come holds no room of others for ever, and says so as a problem."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from footplate_api.bodies import Patience
from footplate_api.database import Database
from footplate_api.edge import Context
from footplate_api.observation import Metrics, MirrorHealth
from footplate_api.settings import with_driver
from tests.component.footplate_api import fleet
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.telemetry import GPT
from tests.component.footplate_api.threaded import Served, served
from tests.support.review_server import of_pod
from tests.support.reviewer import BEARER, FakeReviewer

SILENT = 60  # senders whose bodies do not come: twice as many as there is room for
ANNOUNCED = 200_000  # bytes
HEADERS = {"Content-Type": "application/json"}
SENDER = of_pod("uid-gpt", "research")


@asynccontextmanager
async def announcing(
    port: int, path: str = f"{GPT}/telemetry", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Both ends of a connection on which a long body is announced, and none of it sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    headers = {"Host": "api", **HEADERS, "Content-Length": ANNOUNCED, **(BEARER if path == RUNS else SENDER)}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, str, dict[str, Any]]:
    """Status, headers and problem of an answer after which the connection is closed."""
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), json.loads(body)


@asynccontextmanager
async def patient(folder: Path, patience: Patience) -> AsyncIterator[Served]:
    database = Database(with_driver(f"sqlite:///{folder}/footplate.db"))
    cluster, reviewer = FakeCluster(), FakeReviewer()
    status = {"coordinator": {"podUID": "uid-gpt", "epoch": 1}}
    await cluster.put("research", "gpt", metadata={"uid": "uid-gpt"}, status=status)
    reviewer.add_pod(SENDER["Authorization"].removeprefix("Bearer "), "uid-gpt", "research")
    context = Context(database, cluster, reviewer, Metrics(), MirrorHealth(), patience=patience)
    async with served(context) as running:
        yield running


@pytest.mark.parametrize("path", [f"{GPT}/telemetry", RUNS], ids=["telemetry", "a-run"])
async def test_a_body_that_stops_is_a_408(tmp_path: Path, path: str) -> None:
    patience = Patience(seconds=0.2)
    async with patient(tmp_path, patience) as api, announcing(api.port, path) as (reader, writer):
        writer.write(b'{"runUid"')
        status, headers, problem = await answer(reader)
    assert (status, problem["status"], problem["type"]) == (408, 408, "urn:footplate:problem:http-error")
    assert "content-type: application/problem+json" in headers and "connection: close" in headers
    assert "9 bytes of the body came, and then too little for 0.2 seconds" in problem["detail"]


async def test_a_body_that_trickles_is_a_408(tmp_path: Path) -> None:
    patience = Patience(seconds=0.5, least=1e6)
    async with patient(tmp_path, patience) as api, announcing(api.port) as (reader, writer):
        answered = asyncio.create_task(reader.readline())  # more may be lost: the connection is closed
        while not answered.done():
            writer.write(b" ")
            await asyncio.wait([answered], timeout=0.01)
        assert b" 408 " in await answered


async def test_senders_whose_bodies_do_not_come_leave_room_to_those_behind_them(tmp_path: Path) -> None:
    async with patient(tmp_path, Patience(seconds=0.2)) as api:
        silent = [asyncio.create_task(silence(api.port)) for _ in range(SILENT)]
        await eventually(lambda: asyncio.sleep(0, api.admission.large.used), bool)
        body = json.dumps(batch("uid-gpt", [row(step) for step in range(1, 501)])).encode()
        answered = await api.client.post(f"{GPT}/telemetry", content=body, headers=HEADERS | SENDER)
        assert answered.status_code == 200, answered.text
        assert set(await asyncio.gather(*silent)) == {408}
        assert (api.admission.large.used, api.admission.small.used) == (0, 0)


async def silence(port: int, tls: ssl.SSLContext | None = None) -> int:
    async with announcing(port, tls=tls) as (reader, _):
        return int((await reader.readline()).split()[1])


async def test_a_sender_that_goes_away_as_its_body_is_read_leaves_its_room(tmp_path: Path) -> None:
    async with patient(tmp_path, Patience(seconds=600)) as api:
        async with announcing(api.port):
            await eventually(lambda: asyncio.sleep(0, api.admission.large.used), bool)
        await eventually(lambda: asyncio.sleep(0, api.admission.large.used), lambda used: used == 0)
        counted = (await api.client.get("/metrics")).text
    assert 'telemetry",status="499"} 1.0' in counted and 'status="500"' not in counted


@pytest.mark.long
async def test_four_hundred_silent_senders_hold_a_process_up_no_longer_than_it_was_told(
    empty_url: str, tmp_path: Path
) -> None:
    async with fleet.api(tmp_path, empty_url, FOOTPLATE_BODY_SECONDS="2") as process:
        tls = process.issuer.trusting()
        silent = [asyncio.create_task(silence(process.port, tls)) for _ in range(400)]
        answered = await fleet.returning(process, 100, partial(fleet.backlog, rows=1000))
        assert set(answered) == {200}
        assert set(await asyncio.gather(*silent)) == {408, 429}
        assert fleet.peak(process.pid) < fleet.allowed()
    assert await fleet.stored(empty_url) == {f"uid-{number}": (1000,) * 4 for number in range(100)}
