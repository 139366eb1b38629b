"""What the watches' own HTTP session tells."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from cluster.machine.ports import claim_ports
from footplate_operator.runtime.metrics import serving
from footplate_operator.runtime.watch_session import watch_session

pytestmark = pytest.mark.asyncio(loop_scope="function")


async def test_every_piece_of_an_answer_is_heard_and_no_refusal_is() -> None:
    more, heard, counted = asyncio.Event(), Counter[str](), Counter[tuple[str, int]]()

    async def watch(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer t"
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(2):
            await more.wait()
            more.clear()
            await answer.write(b'{"type": "BOOKMARK"}\n')
        return answer

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({}, status=403)

    app = web.Application()
    app.add_routes([web.get("/api/v1/pods", watch), web.get("/api/v1/nodes", refuse)])
    port = claim_ports(1)[0]
    known = Configuration(host=f"http://127.0.0.1:{port}")
    known.api_key["BearerToken"] = "Bearer t"
    session = watch_session(
        known,
        lambda path: heard.update([path]),
        lambda method, status: counted.update([(method, status)]),
        leanings={},
    )
    async with serving(app, port), session:
        assert (await session.get(f"{known.host}/api/v1/nodes")).status == 403
        async with session.get(f"{known.host}/api/v1/pods?watch=true") as answer:
            connection = answer.connection
            assert connection is not None and connection.transport is not None
            made = connection.transport.get_extra_info("socket")
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            pieces = answer.content.iter_chunked(1000)
            assert heard == {"/api/v1/pods": 1}
            for number in (2, 3):
                more.set()
                assert await anext(pieces) == b'{"type": "BOOKMARK"}\n'
                assert heard == {"/api/v1/pods": number}
    assert counted == {("GET", 200): 1, ("GET", 403): 1}


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_that_breaks_off_is_a_request_that_failed(status: int) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=status)
        await answer.prepare(request)
        await answer.write(b'{"items": [')
        assert request.transport is not None
        request.transport.abort()
        return answer

    app = web.Application()
    app.add_routes([web.get("/apis", break_off)])
    port = claim_ports(1)[0]
    known = Configuration(host=f"http://127.0.0.1:{port}")
    session = watch_session(known, lambda path: None, lambda method, status: None, leanings={})
    async with serving(app, port), session:
        with pytest.raises(aiohttp.ClientConnectionError):  # after which kopf asks again
            await session.get(f"{known.host}/apis")


async def test_of_a_list_only_what_is_worth_it_is_kept() -> None:
    listed = {"metadata": {"continue": "more"}, "items": [{"name": "a", "images": ["large"]}]}

    async def show(_: web.Request) -> web.Response:
        return web.json_response(listed)

    app = web.Application()
    app.add_routes([web.get("/proxy/api/v1/nodes", show), web.get("/proxy/api/v1/pods", show)])
    port = claim_ports(1)[0]
    known = Configuration(host=f"http://127.0.0.1:{port}/proxy")
    leanings = {"/api/v1/nodes": lambda body: {"name": body["name"]}}
    session = watch_session(known, lambda path: None, lambda method, status: None, leanings)
    async with serving(app, port), session:
        nodes = await (await session.get(f"{known.host}/api/v1/nodes?limit=500")).json()
        assert nodes == {"metadata": {"continue": "more"}, "items": [{"name": "a"}]}
        assert await (await session.get(f"{known.host}/api/v1/pods")).json() == listed
