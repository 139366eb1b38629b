"""What the API answers over HTTP, well or badly, and what the operator makes of it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from cluster.machine.ports import claim_ports
from footplate_contracts.names import Phase, RunUid
from footplate_operator.api_access import ApiAccess
from footplate_operator.errors import ApiRefused, ApiUnreachable
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.history_client import (
    FinalStatus,
    HttpHistoryClient,
    RecordingPoller,
    open_tracker,
)
from tests.support.certificates import Issuer

FINAL = FinalStatus(Key("research", "gpt"), RunUid("u-1"), Phase.SUCCEEDED, 12)
KNOWN = {"uid": "u-1", "phase": "Succeeded", "resourceVersion": 12, "spec": {"stage": "pretrain"}, "new": 1}
Answer = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def served(answer: Answer, context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[str]:
    """An API that answers so; its URL."""
    [port] = [port] if port else claim_ports(1)
    app = web.Application()
    app.router.add_get("/v1/namespaces/research/runs/gpt", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{port}/"
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
        pytest.param(with_json(KNOWN | {"phase": "Running"}), "it still has phase Running", id="phase"),
        pytest.param(with_json({"title": "Not Found"}, 404), "it does not have the run", id="404"),
    ],
)
async def test_what_the_api_says(answer: Answer, missing: str) -> None:
    async with served(answer) as url, aiohttp.ClientSession() as session:
        assert await HttpHistoryClient(session, ApiAccess(url)).missing(FINAL) == missing


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(with_json({"title": "migrating"}, 503), "HTTP 503", id="503"),
        pytest.param(with_json(["no", "object"]), "unreadable response", id="no-object"),
        pytest.param(with_json({"uid": "u-1"}), "resourceVersion", id="no-version"),
    ],
)
async def test_an_answer_that_is_none(answer: Answer, why: str) -> None:
    async with served(answer) as url, aiohttp.ClientSession() as session:
        with pytest.raises(ApiUnreachable, match=why):
            await HttpHistoryClient(session, ApiAccess(url)).missing(FINAL)


async def test_nobody_there() -> None:
    [port] = claim_ports(1)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ApiUnreachable, match="ClientConnectorError"):
            await HttpHistoryClient(session, ApiAccess(f"http://127.0.0.1:{port}")).missing(FINAL)


async def test_the_run_comes_again_once_the_api_has_it() -> None:
    told: asyncio.Queue[Key] = asyncio.Queue()
    async with (
        served(with_json(KNOWN)) as url,
        aiohttp.ClientSession() as session,
        open_tracker(session, ApiAccess(url), told.put_nowait) as histories,
    ):
        histories.start_polling(FINAL)
        assert await asyncio.wait_for(told.get(), 10) == FINAL.key
        recorded = histories.get_status(FINAL)
        assert recorded is not None and recorded.known


async def test_without_the_url_of_an_api_nobody_is_asked() -> None:
    async with (
        aiohttp.ClientSession() as session,
        open_tracker(session, ApiAccess(), lambda key: None) as histories,
    ):
        histories.start_polling(FINAL)
        assert histories.get_status(FINAL) is None


def proving(issuer: Issuer, folder: Path) -> ssl.SSLContext:
    """Of a server that `issuer` vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, content in issuer.serving().items():
        (folder / name).write_bytes(content)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


async def test_an_api_that_proves_who_it_is_is_shown_the_token_and_no_other_is(tmp_path: Path) -> None:
    shown: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        shown.append(request.headers.get("Authorization"))
        return web.json_response(KNOWN)

    issuer, other, [port] = Issuer(), Issuer(), claim_ports(1)
    bundles, token = [issuer.bundle], tmp_path / "token"
    token.write_text("a token")
    api = ApiAccess(f"https://127.0.0.1:{port}", token, lambda: bundles[-1])
    async with aiohttp.ClientSession() as session:
        async with served(answer, proving(issuer, tmp_path), port):
            assert await HttpHistoryClient(session, api).missing(FINAL) == ""
        async with served(answer, proving(other, tmp_path), port):
            with pytest.raises(ApiUnreachable, match="certificate verify failed"):
                await HttpHistoryClient(session, api).missing(FINAL)
            assert shown == ["Bearer a token"]
            bundles.append(other.bundle)
            assert await HttpHistoryClient(session, api).missing(FINAL) == ""
    assert shown == ["Bearer a token"] * 2


@pytest.mark.parametrize(
    ("status", "token", "encrypted", "says"),
    [
        pytest.param(401, None, True, "FOOTPLATE_API_TOKEN_FILE is not set", id="no-setting"),
        pytest.param(401, "", True, "/token (FOOTPLATE_API_TOKEN_FILE) holds no token", id="no-token"),
        pytest.param(401, "x", False, "tokens are not sent over plain HTTP", id="in-clear"),
        pytest.param(401, "x", True, "/token: its audience must be one of the API's", id="audience"),
        pytest.param(403, "x", True, "may not get trainingruns in namespace research", id="no-right"),
    ],
)
async def test_a_refusal_names_what_is_missing(
    tmp_path: Path, status: int, token: str | None, encrypted: bool, says: str
) -> None:
    issuer, file = Issuer(), None
    if token is not None:
        file = tmp_path / "token"
        file.write_text(token)
    answer = with_json({"title": "Unauthorized"}, status)
    context = proving(issuer, tmp_path) if encrypted else None
    async with served(answer, context) as url, aiohttp.ClientSession() as session:
        with pytest.raises(ApiRefused, match=f"HTTP {status}") as refused:
            await HttpHistoryClient(session, ApiAccess(url, file, lambda: issuer.bundle)).missing(FINAL)
    assert says in str(refused.value)


async def test_a_refusal_is_told_though_the_api_was_away_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    faults: list[Exception] = [
        ApiUnreachable("away"),
        ApiUnreachable("away"),
        ApiRefused("HTTP 401: no token"),
    ]

    class Faulty:
        async def missing(self, final: FinalStatus) -> str:
            raise faults.pop(0) if len(faults) > 1 else faults[0]

    askers = RecordingPoller(Faulty(), lambda key: None)
    for _ in range(4):
        said = await askers._answer(FINAL)
    assert said == "HTTP 401: no token"
    assert [record.message for record in caplog.records] == [
        "the API does not answer",
        "the API rejects the operator",
    ]
