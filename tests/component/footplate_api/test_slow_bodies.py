"""A body that does not come holds no room of others for ever, and says so as a problem."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from footplate_api.app_context import AppContext
from footplate_api.db.database import Database
from footplate_api.http.body_timeouts import BodyTimeout
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.telemetry.telemetry_admission import AT_ONCE, OF_ONE_SENDER
from tests.component.footplate_api import fleet
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.telemetry import GPT
from tests.component.footplate_api.threaded import Served, served
from tests.support.review_server import BEARER, FakeReviewer, of_pod

SILENT = 40  # senders whose bodies do not come: more than there is room for
ANNOUNCED = 200_000  # bytes
FULL = 31 * ANNOUNCED  # of which so many have room
HEADERS = {"Content-Type": "application/json"}
SENDER = of_pod("uid-gpt", "research")


def uid(name: str) -> str:
    """Of a run, and of its coordinator's pod: as the API server of the fleet has it."""
    return "uid-" + name.removeprefix("run-")


@asynccontextmanager
async def announcing(
    port: int, path: str = f"{GPT}/telemetry", tls: ssl.SSLContext | None = None, length: int = ANNOUNCED
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Both ends of a connection on which a body is announced, and none of it sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    sender = BEARER if path == RUNS else of_pod(uid(path.split("/")[-2]), "research")
    headers = {"Host": "api", **HEADERS, "Content-Length": length, **sender}
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
async def patient(url: str, body_timeout: BodyTimeout) -> AsyncIterator[Served]:
    database = Database(url)
    cluster, reviewer = FakeCluster(), FakeReviewer()
    for name in ("gpt", *(f"run-{number}" for number in range(SILENT))):
        status = {"coordinator": {"podUID": uid(name), "epoch": 1}}
        await cluster.put("research", name, metadata={"uid": uid(name)}, status=status)
        token = of_pod(uid(name), "research")["Authorization"].removeprefix("Bearer ")
        reviewer.add_pod(token, uid(name), "research")
    context = AppContext(database, cluster, reviewer, ApiMetrics(), MirrorHealth(), body_timeout=body_timeout)
    async with served(context) as running:
        yield running


@pytest.mark.parametrize("path", [f"{GPT}/telemetry", RUNS], ids=["telemetry", "a-run"])
async def test_a_body_that_stops_is_a_408(sqlite_url: str, path: str) -> None:
    body_timeout = BodyTimeout(seconds=0.2)
    async with patient(sqlite_url, body_timeout) as api, announcing(api.port, path) as (reader, writer):
        writer.write(b'{"runUid"')
        status, headers, problem = await answer(reader)
    assert (status, problem["status"], problem["type"]) == (408, 408, "urn:footplate:problem:http-error")
    assert "content-type: application/problem+json" in headers and "connection: close" in headers
    assert "the body is too slow: 9 bytes arrived, then too few for 0.2 seconds" in problem["detail"]


async def test_a_body_that_trickles_is_a_408(sqlite_url: str) -> None:
    body_timeout = BodyTimeout(seconds=0.5, least=1e6)
    async with patient(sqlite_url, body_timeout) as api, announcing(api.port) as (reader, writer):
        answered = asyncio.create_task(reader.readline())  # more may be lost: the connection is closed
        while not answered.done():
            writer.write(b" ")
            await asyncio.wait([answered], timeout=0.01)
        assert b" 408 " in await answered


@pytest.mark.parametrize("begun", [b"", b"{"], ids=["silent", "stopped"])
async def test_senders_whose_bodies_do_not_come_leave_room_to_those_behind_them(
    sqlite_url: str, begun: bytes
) -> None:
    async with patient(sqlite_url, BodyTimeout(seconds=600)) as api, AsyncExitStack() as stack:
        for number in range(SILENT):
            path = f"{RUNS}/run-{number}/telemetry"
            _, writer = await stack.enter_async_context(announcing(api.port, path))
            writer.write(begun)
        admission = api.admission
        if begun:
            await eventually(lambda: asyncio.sleep(0, admission.large.used), FULL.__eq__)
        else:
            await eventually(lambda: asyncio.sleep(0, len(admission.beginning)), SILENT.__eq__)
        body = json.dumps(batch("uid-gpt", [row(step) for step in range(1, 501)])).encode()
        answered = await api.client.post(f"{GPT}/telemetry", content=body, headers=HEADERS | SENDER)
        assert answered.status_code == 200, answered.text
        await stack.aclose()
        await eventually(lambda: asyncio.sleep(0, admission.large.used), lambda used: used == 0)


async def test_short_batches_that_do_not_come_hold_up_nobody(sqlite_url: str) -> None:
    async def under_way() -> int:
        return len(asyncio.all_tasks())

    async with patient(sqlite_url, BodyTimeout(seconds=600)) as api, AsyncExitStack() as stack:
        for number in range(2 * AT_ONCE):
            path = f"{RUNS}/run-{number % SILENT}/telemetry"
            await stack.enter_async_context(announcing(api.port, path, length=100))
        await eventually(lambda: api.do(under_way()), lambda tasks: tasks > 2 * AT_ONCE)
        sent = [
            api.client.post(f"{GPT}/telemetry", json=batch("uid-gpt", [row(step)]), headers=SENDER)
            for step in range(1, OF_ONE_SENDER + 1)
        ]
        assert [answer.status_code for answer in await asyncio.gather(*sent)] == [200] * OF_ONE_SENDER
        async with announcing(api.port, length=100) as (reader, writer):
            writer.write(b"{" + b" " * 98)
            writer.write(b"}")
            assert b" 422 " in await reader.readline()


async def test_a_sender_with_too_much_under_way_is_told_to_come_back(sqlite_url: str) -> None:
    async with patient(sqlite_url, BodyTimeout(seconds=600)) as api, AsyncExitStack() as stack:
        for _ in range(OF_ONE_SENDER):
            await stack.enter_async_context(announcing(api.port))
        await eventually(lambda: asyncio.sleep(0, len(api.admission.beginning)), OF_ONE_SENDER.__eq__)
        answer = await api.client.post(f"{GPT}/telemetry", json=batch("uid-gpt"), headers=SENDER)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
        assert "4 batches of this sender are in progress" in answer.json()["detail"]


async def test_a_sender_that_goes_away_as_its_body_is_read_leaves_its_room(sqlite_url: str) -> None:
    async with patient(sqlite_url, BodyTimeout(seconds=600)) as api:
        async with announcing(api.port) as (_, writer):
            writer.write(b"{")
            await eventually(lambda: asyncio.sleep(0, api.admission.large.used), bool)
        await eventually(lambda: asyncio.sleep(0, api.admission.large.used), lambda used: used == 0)
        counted = (await api.client.get("/metrics")).text
    assert 'telemetry",status="499"} 1.0' in counted and 'status="500"' not in counted


async def silence(port: int, path: str, tls: ssl.SSLContext) -> int:
    async with announcing(port, path, tls) as (reader, _):
        return int((await reader.readline()).split()[1])


@pytest.mark.long
async def test_four_hundred_silent_senders_hold_a_process_up_no_longer_than_it_was_told(
    database_url: str, tmp_path: Path
) -> None:
    async with fleet.api(tmp_path, database_url, FOOTPLATE_BODY_SECONDS="2") as process:
        tls = process.issuer.trusting()
        silent = [
            asyncio.create_task(silence(process.port, f"{RUNS}/run-{number}/telemetry", tls))
            for number in range(1000, 1400)
        ]
        answered = await fleet.returning(process, 100, partial(fleet.backlog, rows=1000))
        assert set(answered) == {200}
        assert set(await asyncio.gather(*silent)) <= {408, 429, 503}
        taken = fleet.peak(process.pid)
        print(f"{taken / 2**20:.0f} MiB")
        assert taken < fleet.allowed()
    assert await fleet.stored(database_url) == {f"uid-{number}": (1000,) * 4 for number in range(100)}
