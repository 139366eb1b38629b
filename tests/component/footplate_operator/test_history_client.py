"""What the API answers over HTTP, well or badly, and what the operator makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from cluster.machine.ports import claim_ports
from footplate_contracts.names import Phase, RunUid
from footplate_operator.errors import ApiUnreachable
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.history_client import FinalStatus, HttpHistory, asking

FINAL = FinalStatus(Key("research", "gpt"), RunUid("u-1"), Phase.SUCCEEDED, 12)
KNOWN = {"uid": "u-1", "phase": "Succeeded", "resourceVersion": 12, "spec": {"stage": "pretrain"}, "new": 1}
Answer = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[str]:
    """An API that answers so; its URL."""
    [port] = claim_ports(1)
    app = web.Application()
    app.router.add_get("/v1/namespaces/research/runs/gpt", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


def with_json(body: object, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        assert request.query["uid"] == "u-1"
        return web.json_response(body, status=status)

    return answer


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        pytest.param(with_json(KNOWN), "", id="it"),
        pytest.param(with_json(KNOWN | {"phase": "Running"}), "it still has the phase Running", id="phase"),
        pytest.param(with_json({"title": "Not Found"}, 404), "it has not seen the run", id="404"),
    ],
)
async def test_what_the_api_says(answer: Answer, missing: str) -> None:
    async with served(answer) as url, aiohttp.ClientSession() as session:
        assert await HttpHistory(session, url).missing(FINAL) == missing


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(with_json({"title": "migrating"}, 503), "HTTP 503", id="503"),
        pytest.param(with_json(["no", "object"]), "cannot be read", id="no-object"),
        pytest.param(with_json({"uid": "u-1"}), "resourceVersion", id="no-version"),
    ],
)
async def test_an_answer_that_is_none(answer: Answer, why: str) -> None:
    async with served(answer) as url, aiohttp.ClientSession() as session:
        with pytest.raises(ApiUnreachable, match=why):
            await HttpHistory(session, url).missing(FINAL)


async def test_nobody_there() -> None:
    [port] = claim_ports(1)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ApiUnreachable, match="ClientConnectorError"):
            await HttpHistory(session, f"http://127.0.0.1:{port}").missing(FINAL)


async def test_the_run_comes_again_once_the_api_has_it() -> None:
    told: asyncio.Queue[Key] = asyncio.Queue()
    async with (
        served(with_json(KNOWN)) as url,
        aiohttp.ClientSession() as session,
        asking(session, url, told.put_nowait) as histories,
    ):
        histories.ask(FINAL)
        assert await asyncio.wait_for(told.get(), 10) == FINAL.key
        recorded = histories.recorded(FINAL)
        assert recorded is not None and recorded.known


async def test_without_the_url_of_an_api_nobody_is_asked() -> None:
    async with aiohttp.ClientSession() as session, asking(session, "", lambda key: None) as histories:
        histories.ask(FINAL)
        assert histories.recorded(FINAL) is None
