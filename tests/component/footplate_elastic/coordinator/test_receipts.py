"""Telemetry is stored when the API says so: whatever answers in its place."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from tests.component.footplate_elastic.coordinator.test_shipping import G1, FakeApi, shipper
from tests.unit.footplate_elastic.coordinator.story import agent
from tests.unit.footplate_elastic.coordinator.test_telemetry import items

ELSEWHERE = "/login"


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
    buffer.offer(agent(0), items(1, 2), 1, G1)
    with caplog.at_level(logging.INFO):
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                assert await ships.ship(session) is not None and len(buffer) == 2
            assert await ships.ship(session) is None
    assert (sorted(api.rows), len(buffer), asked) == ([1, 2], 0, ["POST /telemetry"] * 3)
    said = [record.getMessage() for record in caplog.records if record.name.endswith("shipping")]
    assert [told in line for line in said] == [True, False]
    await server.close()
