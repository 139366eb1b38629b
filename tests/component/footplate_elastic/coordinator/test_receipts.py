"""Telemetry is stored when the API says so, and given up when it says so: whatever answers in its place."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from footplate_contracts.problems import ProblemType
from footplate_contracts.reports import DroppedTelemetry
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.telemetry_sender import ANSWER_BYTES
from tests.component.footplate_elastic.coordinator.test_shipping import (
    G1,
    FakeApi,
    encrypted,
    problem,
    shipper,
)
from tests.unit.footplate_elastic.coordinator.story import agent
from tests.unit.footplate_elastic.coordinator.test_telemetry import items

ELSEWHERE = "/login"
CLUSTER_REFUSED: Final = "urn:footplate:problem:cluster-refused"
RECEIPT: Final = b'{"rows": 2, "checkpoints": 0}'


def says(text: str, status: int = 200) -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, text=text, headers={"Location": ELSEWHERE})


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(says("<html>", 301), "301", id="moved"),
        pytest.param(says("<html>", 302), "302", id="found"),
        pytest.param(says('{"rows": 2, "checkpoints": 0}', 308), "308", id="moved-with-a-receipt"),
        pytest.param(says("<html>please log in</html>"), "200 <html>please log in", id="page"),
        pytest.param(says("{}"), "200 {}", id="no-rows"),
        pytest.param(says("", 204), "204", id="nothing"),
    ],
)
async def test_rows_are_kept_until_there_is_a_receipt(
    answer: Callable[[], web.Response], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    api, buffer, asked = FakeApi(), TelemetryBuffer(keep=True), list[str]()

    @web.middleware
    async def proxy(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path}")
        return answer() if len(asked) <= 2 else await handler(request)

    app = api.application()
    app.middlewares.append(proxy)
    server = TestServer(app)
    await server.start_server()
    ships = shipper(buffer, str(server.make_url("/telemetry")))
    buffer.add_items(agent(0), items(1, 2), 1, G1)
    with caplog.at_level(logging.INFO):
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                assert await ships.send_batch(session) is not None and len(buffer) == 2
            assert await ships.send_batch(session) is None
    assert (sorted(api.rows), len(buffer), asked) == ([1, 2], 0, ["POST /telemetry"] * 3)
    said = [record.getMessage() for record in caplog.records if record.name.endswith("telemetry_sender")]
    assert [told in line for line in said] == [True, False]
    await server.close()


@pytest.mark.parametrize(
    "answer",
    [
        *(pytest.param(status, id=f"proxy-{status}") for status in (400, 409, 413, 422)),
        *(pytest.param((status, CLUSTER_REFUSED), id=f"kubernetes-{status}") for status in (400, 409, 422)),
        pytest.param((413, CLUSTER_REFUSED), id="kubernetes-413"),
        pytest.param((400, ProblemType.HTTP_ERROR), id="broken-on-its-way"),
        pytest.param((422, "about:blank"), id="somebody-elses-problem"),
    ],
)
async def test_what_somebody_else_refuses_is_kept(answer: int | tuple[int, str]) -> None:
    api, buffer = FakeApi(*[answer] * 4), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    ships = shipper(buffer, str(server.make_url("/telemetry")))
    buffer.add_items(agent(0), items(1, 2), 1, G1)
    async with aiohttp.ClientSession() as session:
        for _ in range(4):
            assert await ships.send_batch(session) is not None and len(buffer) == 2
        while len(buffer):
            assert await ships.send_batch(session) is None
    assert (sorted(api.rows), buffer.given_up) == ([1, 2], DroppedTelemetry())
    await server.close()


@pytest.mark.parametrize(
    ("most", "stored"),
    [
        pytest.param(3000, list(range(1, 101)), id="several-rows"),
        pytest.param(10, [], id="not-a-single-one"),
    ],
)
async def test_a_batch_that_is_too_large_is_sent_in_parts(most: int, stored: list[int]) -> None:
    """With a row that is too large by itself no other waits."""
    api, buffer = FakeApi(), TelemetryBuffer(keep=True)

    @web.middleware
    async def limited(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if (request.content_length or 0) > most and (await request.json())["rows"]:
            return problem(413, ProblemType.HTTP_ERROR)
        return await handler(request)

    app = api.application()
    app.middlewares.append(limited)
    server = TestServer(app)
    await server.start_server()
    buffer.add_items(agent(0), items(1, 100), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert (sorted(api.rows), len(buffer), buffer.given_up.refused) == (stored, 0, 100 - len(stored))
    await server.close()


@pytest.mark.parametrize(
    "headers", [pytest.param({}, id="plain"), pytest.param({"Content-Encoding": "gzip"}, id="packed")]
)
async def test_an_answer_without_end_is_no_receipt(headers: dict[str, str]) -> None:
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        assert request.headers["Accept-Encoding"] == "identity"
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(gzip.compress(RECEIPT) if headers else RECEIPT)
        while written < 64 * ANSWER_BYTES:
            await response.write(b" " * 65536)
            written += 65536
        return response

    app, buffer = web.Application(), TelemetryBuffer(keep=True)
    app.router.add_post("/telemetry", answer)
    server = TestServer(app)
    await server.start_server()
    buffer.add_items(agent(0), items(1, 2), 1, G1)
    async with aiohttp.ClientSession() as session:
        assert await shipper(buffer, str(server.make_url("/telemetry"))).send_batch(session) is not None
    assert len(buffer) == 2 and written < 32 * ANSWER_BYTES  # what the sockets hold is more than was read
    await server.close()


async def test_a_token_that_is_no_text_ends_nothing(tmp_path: Path) -> None:
    api, buffer, token_file = FakeApi(), TelemetryBuffer(keep=True), tmp_path / "token"
    token_file.write_bytes(b"\xff\xfe")
    async with encrypted(api, tmp_path) as (url, certificate):
        ships = shipper(buffer, url, token_file, certificate)
        buffer.add_items(agent(0), items(1, 2), 1, G1)
        async with aiohttp.ClientSession() as session:
            assert await ships.send_batch(session) is not None and (api.tokens, len(buffer)) == ([], 2)
            token_file.write_text("renewed")
            assert await ships.send_batch(session) is None
    assert (sorted(api.rows), api.tokens) == ([1, 2], ["Bearer renewed"])


async def test_rows_of_a_run_whose_name_has_another_by_now_are_given_up() -> None:
    api, buffer = FakeApi((409, ProblemType.RUN_MISMATCH)), TelemetryBuffer(keep=True)
    server = TestServer(api.application())
    await server.start_server()
    buffer.add_items(agent(0), items(1, 7), 1, G1)
    await shipper(buffer, str(server.make_url("/telemetry"))).flush(30.0)
    assert len(buffer) == 0 and not api.rows
    assert api.given_up == [{"refused": 7, "overflowed": 0}]
    await server.close()
