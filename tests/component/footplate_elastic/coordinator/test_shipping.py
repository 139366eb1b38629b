"""Telemetry reaches an API that is away, refuses, and comes back: once, in order, nothing lost."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from footplate_contracts.problems import ProblemType
from footplate_contracts.rendezvous import Heartbeat
from footplate_contracts.reports import DroppedTelemetry, GenerationId, TelemetryItem
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.telemetry_sender import TelemetryDestination, TelemetrySender
from tests.support.certificates import any_credentials
from tests.unit.footplate_elastic.coordinator.story import agent
from tests.unit.footplate_elastic.coordinator.test_telemetry import items, row

G1 = GenerationId(epoch=1, number=1)


def problem(status: int, kind: str) -> web.Response:
    """An error as the API answers it."""
    body = {"type": kind, "title": "Refused", "status": status, "detail": "why", "requestId": "id-1"}
    return web.json_response(body, status=status, content_type="application/problem+json")


class FakeApi:
    """Stores rows by step; answers the first requests with a proxy's page, or a problem of the API's own."""

    def __init__(self, *answers: int | tuple[int, str]) -> None:
        self.answers = list(answers)
        self.rows: dict[int, Any] = {}
        self.valid: str | None = None  # what the header Authorization has to be
        self.tokens: list[str | None] = []
        self.unacceptable: frozenset[int] = frozenset()  # steps that make a batch invalid
        self.retry_after: str | None = None
        self.gather: float | None = None  # seconds that a receipt asks for
        self.given_up: list[Any] = []  # of each batch that was taken
        self.asked: list[float] = []  # when, by the clock of the loop

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/telemetry", self.take)
        return app

    async def take(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        self.asked.append(asyncio.get_running_loop().time())
        if self.answers:
            answer = self.answers.pop(0)
            headers = {"Retry-After": self.retry_after} if self.retry_after else None
            if isinstance(answer, tuple):
                return problem(*answer)
            return web.Response(status=answer, body=b"\xff caf\xe9", headers=headers)
        if self.valid is not None and self.tokens[-1] != self.valid:
            return web.Response(status=401)
        batch = await request.json()
        if self.unacceptable & {entry["metrics"]["step"] for entry in batch["rows"]}:
            return problem(422, ProblemType.INVALID)
        self.given_up.append(batch["givenUp"])
        for entry in batch["rows"]:
            self.rows[entry["metrics"]["step"]] = entry
        gather = {} if self.gather is None else {"gatherSeconds": self.gather}
        return web.json_response({"rows": len(batch["rows"]), "checkpoints": 0, **gather})


def shipper(
    buffer: TelemetryBuffer, url: str, token_file: Path | None = None, authorities: Path | None = None
) -> TelemetrySender:
    return TelemetrySender(
        buffer, TelemetryDestination(url, token_file, "uid-1", 1, authorities), random.Random(0)
    )


async def all_stored(buffer: TelemetryBuffer) -> None:
    async with asyncio.timeout(30):
        while len(buffer) > 0:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "statuses",
    [
        pytest.param((), id="well"),
        pytest.param((503,), id="away"),
        pytest.param((401, 404), id="refuses at first"),
        pytest.param((403, 403), id="its mirror lags"),
    ],
)
async def test_rows_are_kept_until_the_api_has_stored_them(statuses: tuple[int, ...]) -> None:
    api, buffer = FakeApi(*statuses), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    ships = shipper(buffer, str(server.make_url("/telemetry")))
    task = asyncio.create_task(ships.run())
    buffer.add_items(agent(0), items(1, 7), 1, G1)
    ships.wake()
    assert buffer.acknowledged(agent(0)) == 0
    await all_stored(buffer)
    assert sorted(api.rows) == list(range(1, 8))
    assert buffer.acknowledged(agent(0)) == 7
    assert set(api.tokens) == {None}
    task.cancel()
    await server.close()


@asynccontextmanager
async def encrypted(api: FakeApi, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """The URL of `api` over TLS, and the certificate that vouches for it."""
    made = any_credentials("localhost")
    certificate, key = folder / "api.crt", folder / "api.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.private_key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = TestServer(api.application(), host="localhost", scheme="https")
    await server.start_server(ssl=context)
    yield str(server.make_url("/telemetry")), certificate
    await server.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_sender_that_is_refused_keeps_its_rows_and_says_so_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    api, buffer = FakeApi(*[status] * 3), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 7), 1, G1)
    with caplog.at_level(logging.INFO):
        await shipper(buffer, str(server.make_url("/telemetry"))).flush(60.0)
    assert sorted(api.rows) == list(range(1, 8)) and buffer.given_up == DroppedTelemetry()
    waited = [second - first for first, second in pairwise(api.asked)]
    assert len(waited) == 3 and waited[0] < waited[2]  # half of each is chance
    said = [record.getMessage() for record in caplog.records if record.name.endswith("telemetry_sender")]
    assert [str(status) in line for line in said] == [True, False]
    await server.close()


async def test_what_a_receipt_says_holds_after_a_refusal(tmp_path: Path) -> None:
    api, buffer, token_file = FakeApi(), TelemetryBuffer(keep=True), tmp_path / "token"
    api.gather, api.valid = 1.0, "Bearer renewed"
    token_file.write_text("ended")
    async with encrypted(api, tmp_path) as (url, certificate):
        ships = shipper(buffer, url, token_file, certificate)
        task = asyncio.create_task(ships.run())
        buffer.add_items(agent(0), items(1, 1), 1, G1)
        ships.wake()
        async with asyncio.timeout(30):
            while len(api.asked) < 2:
                await asyncio.sleep(0.01)
        token_file.write_text("renewed")
        await all_stored(buffer)
        taken = len(api.asked)
        buffer.add_items(agent(0), items(2, 2), 1, G1)
        ships.wake()
        await all_stored(buffer)
        assert api.asked[taken] - api.asked[taken - 1] >= 1.0
        assert set(api.tokens[: taken - 1]) == {"Bearer ended"} and set(api.tokens[taken - 1 :]) == {
            "Bearer renewed"
        }
        task.cancel()


async def test_the_rest_is_handed_over_at_the_end() -> None:
    api, buffer = FakeApi(), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 6000), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert len(api.rows) == 6000
    await server.close()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({1}, id="first"),
        pytest.param({700}, id="in the middle"),
        pytest.param({699, 700, 2500}, id="several"),
    ],
)
async def test_a_row_that_is_never_taken_holds_up_no_other(bad: set[int]) -> None:
    api, buffer = FakeApi(), TelemetryBuffer(keep=True)
    api.unacceptable = frozenset(bad)
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 2500), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert set(range(1, 2501)) - set(api.rows) == bad
    assert buffer.given_up == DroppedTelemetry(refused=len(bad))
    assert api.given_up[-1] == {"refused": len(bad), "overflowed": 0}
    assert buffer.acknowledged(agent(0)) == 2500
    await server.close()


async def test_a_coordinator_that_ends_while_the_api_is_away_hands_over_all_the_same() -> None:
    api, buffer = FakeApi(503, 503), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert sorted(api.rows) == [1, 2, 3]
    await server.close()


async def test_an_api_that_does_not_answer_does_not_hold_up_the_end() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), items(1, 1), 1, G1)
    await shipper(buffer, "http://127.0.0.1:9/telemetry").flush(5.0)
    assert len(buffer) == 1


async def test_a_loss_that_is_no_number_arrives_as_valid_json() -> None:
    api, buffer = FakeApi(), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    diverged = row(1).model_copy(update={"loss": math.nan})
    buffer.add_items(agent(0), [TelemetryItem(sequence=1, metrics=diverged)], 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert api.rows[1]["metrics"]["loss"] == "NaN"
    await server.close()


@pytest.mark.parametrize("status", [429, 503])
async def test_the_api_says_when_to_come_back(status: int) -> None:
    api, buffer = FakeApi(status), TelemetryBuffer(keep=True)
    api.retry_after = "1"
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    first, second = api.asked
    assert second - first >= 1.0  # half of that at most, if it were for us
    assert sorted(api.rows) == [1, 2, 3]
    await server.close()


async def test_the_api_says_how_long_to_gather() -> None:
    api, buffer = FakeApi(), TelemetryBuffer(keep=True)
    api.gather = 1.0
    server = TestServer(api.application())
    await server.start_server()
    ships = shipper(buffer, str(server.make_url("/telemetry")))
    task = asyncio.create_task(ships.run())
    for number in (1, 2):
        buffer.add_items(agent(0), items(number, number), 1, G1)
        ships.wake()
        await all_stored(buffer)
    first, second = api.asked
    assert second - first >= 1.0
    task.cancel()
    await server.close()


async def test_at_the_end_of_the_run_nothing_more_is_gathered() -> None:
    api, buffer, over = FakeApi(), TelemetryBuffer(keep=True), list[bool]()
    api.gather = 30.0
    server = TestServer(api.application())
    await server.start_server()
    ships = shipper(buffer, str(server.make_url("/telemetry")))
    ships.over = lambda: bool(over)
    task = asyncio.create_task(ships.run())
    for number in (1, 2):
        buffer.add_items(agent(0), items(number, number), 1, G1)
        ships.wake()
        if number == 2:
            over.append(True)
            ships.wake()
        async with asyncio.timeout(20):
            await all_stored(buffer)
    task.cancel()
    await server.close()


async def test_an_api_that_asks_to_stay_away_is_asked_once_more_before_the_end() -> None:
    api, buffer = FakeApi(503), TelemetryBuffer(keep=True)
    api.retry_after = "60"
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(timing.LAST_TRY + 0.5)
    assert sorted(api.rows) == [1, 2, 3]
    await server.close()


async def test_one_that_goes_on_asking_does_not_hold_up_the_end() -> None:
    api, buffer = FakeApi(*[503] * 100), TelemetryBuffer(keep=True)
    api.retry_after = "60"
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    async with asyncio.timeout(20):
        await shipper(buffer, str(server.make_url("/telemetry"))).flush(timing.LAST_TRY + 0.5)
    assert (len(buffer), len(api.asked)) == (3, 2)
    await server.close()


async def test_the_api_hears_what_is_given_up_though_there_is_no_row_to_tell_it_with() -> None:
    api, buffer = FakeApi(503), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    ships = shipper(buffer, str(server.make_url("/telemetry")))
    task = asyncio.create_task(ships.run())
    for overflowed in (3, 3, 5):
        buffer.update_overflow(Heartbeat(agent=agent(0), overflowed=overflowed))
        ships.wake()
        async with asyncio.timeout(30):
            while buffer.has_pending:
                await asyncio.sleep(0.01)
    assert api.given_up == [{"refused": 0, "overflowed": 3}, {"refused": 0, "overflowed": 5}]
    task.cancel()
    await server.close()


async def test_an_api_that_takes_no_empty_batch_is_sent_it_once() -> None:
    api, buffer = FakeApi((422, ProblemType.INVALID)), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    buffer.update_overflow(Heartbeat(agent=agent(0), overflowed=3))
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert len(api.asked) == 1
    await server.close()
