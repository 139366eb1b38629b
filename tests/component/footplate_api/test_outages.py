"""A database that is locked, silent or full: who waits, what is said, what goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.errors import DatabaseUnavailable
from footplate_api.settings import with_driver
from tests.component.footplate_api.builders import RUNS, batch, eventually, row
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.postgres import Server
from tests.component.footplate_api.telemetry import GPT, created, history, sent

SOON = 10.0  # seconds; whoever waited for the lock would wait until it is given back, which is after that


async def test_readers_never_wait_for_writers(sqlite_url: str) -> None:
    async with running(sqlite_url, FakeCluster()) as api:
        uid = await created(api)
        await sent(api, batch(uid, [row(1)]))
        senders = [
            await api.coordinator(f"uid-{number}", f"run-{number}") for number in range(150)
        ]  # more than all buffers on the way hold
        with closing(sqlite3.connect(sqlite_url.partition("///")[2], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [
                asyncio.create_task(
                    api.client.post(
                        f"{RUNS}/run-{number}/telemetry",
                        json=batch(f"uid-{number}", [row(1)]),
                        headers=headers,
                    )
                )
                for number, headers in enumerate(senders)
            ]
            for _ in range(5):
                for path in ("/readyz", RUNS, f"{GPT}/metrics", "/metrics"):
                    started = time.monotonic()
                    assert (await api.client.get(path)).status_code == 200
                    assert time.monotonic() - started < SOON, path
            assert not any(task.done() for task in waiting)
            other.execute("ROLLBACK")
        assert {(await task).status_code for task in waiting} == {200}


class Forwarder:
    """Passes bytes between clients and a server, until it is told to swallow them."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self.passing = asyncio.Event()
        self.passing.set()
        self.holding = asyncio.Event()  # something came that is swallowed
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self._server))
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self.passing.is_set():
                    self.holding.set()
                await self.passing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def forwarded(server: Server, folder: Path) -> AsyncIterator[tuple[Forwarder, str]]:
    """A forwarder before `server`, and the URL of its database through it."""
    socket = folder / ".s.PGSQL.5432"
    forwarder = Forwarder(server.socket)
    async with await asyncio.start_unix_server(forwarder.accept, path=str(socket)) as listener:
        server.remembered()
        try:
            yield forwarder, with_driver(f"postgresql://footplate@/postgres?host={folder}")
        finally:
            forwarder.passing.set()
            forwarder.close()
            listener.close()


async def test_a_database_that_swallows_packets_is_a_503_within_five_seconds(
    postgres: Server, tmp_path: Path
) -> None:
    async with (
        forwarded(postgres, tmp_path) as (forwarder, url),
        running(url, FakeCluster(), database=Database) as api,
    ):
        uid = await created(api)
        await sent(api, batch(uid, [row(1)]))
        forwarder.passing.clear()
        started = time.monotonic()
        asked = [api.client.get(path) for path in ("/readyz", RUNS, f"{GPT}/metrics") * 8]
        headers = await api.coordinator(uid)
        told = [
            api.client.post(f"{GPT}/telemetry", json=batch(uid, [row(2)]), headers=headers) for _ in range(3)
        ]
        answers = await asyncio.gather(*told, *asked)
        assert time.monotonic() - started < 5.0
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        await api.cluster.put("research", "while-it-was-silent")
        forwarder.passing.set()
        await eventually(lambda: api.client.get("/readyz"), lambda answer: answer.status_code == 200, 15)
        await eventually(lambda: seen(api, "while-it-was-silent"), bool, 15)
        await sent(api, batch(uid, [row(2)]))
        assert (await history(api))["step"] == [1, 2]


async def seen(api: Api, name: str) -> bool:
    answer: httpx.Response = await api.client.get(f"{RUNS}/{name}")
    return answer.status_code == 200


MANY = [
    {"number": number, "text": "x" * 8000} for number in range(150)
]  # more than all buffers on the way hold


@pytest.mark.parametrize(
    ("seconds", "cancelled", "ends"),
    [
        pytest.param(0.2, False, DatabaseUnavailable, id="its-time-is-up"),
        pytest.param(None, True, asyncio.CancelledError, id="who-wrote-is-cancelled"),
        pytest.param(60.0, True, asyncio.CancelledError, id="cancelled-before-its-time-is-up"),
    ],
)
async def test_a_silence_while_many_rows_are_sent_ends_the_write_and_its_locks(
    postgres: Server, tmp_path: Path, seconds: float | None, cancelled: bool, ends: type[BaseException]
) -> None:
    insert = text("INSERT INTO many VALUES (:number, :text)")
    async with forwarded(postgres, tmp_path) as (forwarder, url):
        database = Database(url)
        async with database.write() as session:
            await session.execute(text("CREATE TABLE many (number INTEGER, text TEXT)"))

        async def write() -> None:
            async with database.write(seconds) as session:
                await session.execute(text("LOCK TABLE many"))
                await session.execute(insert, MANY[:2])  # the driver knows the statement from now on
                forwarder.passing.clear()
                await session.execute(insert, MANY)

        writing = asyncio.create_task(write())
        await forwarder.holding.wait()
        if cancelled:
            writing.cancel()
        await asyncio.wait([writing], timeout=5.0)
        assert writing.done()
        with pytest.raises(ends):
            await writing
        forwarder.passing.set()
        async with database.write() as session:
            await session.execute(text("LOCK TABLE many"))
            assert not await session.scalar(text("SELECT count(*) FROM many"))
        await database.close()
