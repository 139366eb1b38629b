"""The coordinator over real sockets: who is let in, what long-polls wait for, how an end shows."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from yarl import URL

from footplate_contracts.directives import Directives, HangTimeouts
from footplate_contracts.names import FIRST_SPARE, Cause
from footplate_contracts.rendezvous import HeartbeatResponse, JoinRequest
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.server import BODY_LIMIT, PART, Server
from footplate_elastic.coordinator.service import Service
from footplate_elastic.coordinator.state import new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import Timing
from footplate_elastic.protocol import wire
from tests.unit.footplate_elastic.coordinator.story import agent, any_size, failure, sealed_by_hand

TOKEN = "secret"
LONG = 60.0  # a long-poll that answers sooner did so because of the news


class Client:
    """Speaks JSON to one server."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, url: URL) -> None:
        self.url = url
        self.session = session
        self.server = server

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        async with self.session.post(path, json=body) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def direct(self, **directives: Any) -> tuple[int, Any]:
        async with self.session.put(wire.DIRECTIVES, json=directives) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        async with self.session.get(path) as answer:
            return await answer.json()

    def join(self, index: int, incarnation: int = 0, port: int = 1, **more: Any) -> asyncio.Task[Any]:
        request = JoinRequest(agent=agent(index, incarnation), store_port=port, **more)
        return asyncio.create_task(self.post(wire.JOIN, request.to_json()))

    async def sealed(self) -> GenerationId:
        """Both slots join; the generation."""
        (status, body), _ = await asyncio.gather(self.join(0), self.join(1))
        assert status == 200
        return GenerationId.from_json(body["generation"])

    async def beat(self, index: int, **more: Any) -> Any:
        status, body = await self.post(wire.HEARTBEAT, {"agent": agent(index).to_json(), **more})
        assert status == 200
        return body

    async def until(self, condition: Any) -> Any:
        """The first state that fulfils `condition`."""
        state: dict[str, Any] = {"version": 0}
        async with asyncio.timeout(LONG / 2):
            while True:
                state = await self.get(f"{wire.STATE}?after={state['version']}&wait={LONG}")
                if condition(state):
                    return state


async def serve(epoch: int, nodes: int = 2) -> AsyncIterator[Client]:
    membership = new_membership(epoch, nodes, 2, time.monotonic(), Timing())
    size = Directives(nodes=nodes)
    coordinator = Coordinator(membership, TelemetryBuffer(keep=False), time.time, any_size, size)
    service = Service(coordinator, lambda: None, time.monotonic)
    server = Server(service, TOKEN)
    web = TestServer(server.application())
    await web.start_server(shutdown_timeout=0.1)
    clock = asyncio.create_task(service.keep_time())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(web.make_url("/"), headers=headers) as session:
        yield Client(session, server, web.make_url("/"))
    server.end()
    clock.cancel()
    await web.close()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async for made in serve(1):
        yield made


@pytest.fixture
async def large() -> AsyncIterator[Client]:
    """A coordinator of 300 agents."""
    async for made in serve(1, nodes=300):
        yield made


@pytest.fixture
async def replaced() -> AsyncIterator[Client]:
    """A coordinator of epoch 2."""
    async for made in serve(2):
        yield made


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="none"),
        pytest.param("Bearer wrong", id="wrong"),
        pytest.param("Bearer sécret", id="not ASCII"),
        pytest.param(TOKEN, id="no scheme"),
    ],
)
async def test_only_the_runs_token_is_let_in(client: Client, token: str) -> None:
    async with client.session.get(wire.STATE, headers={"Authorization": token}) as answer:
        assert answer.status == 401


async def test_a_token_of_any_bytes_is_refused_and_no_error(client: Client) -> None:
    where = client.session._base_url
    assert where is not None
    reader, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(b"GET /v1/state HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()


async def test_health_needs_no_token(client: Client) -> None:
    async with client.session.get(wire.HEALTH, headers={"Authorization": ""}) as answer:
        assert (answer.status, await answer.text()) == (200, "ok\n")


@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        pytest.param(wire.JOIN, {"storePort": 1}, "agent", id="no agent"),
        pytest.param(
            wire.JOIN,
            {"storePort": 1, "agent": agent(1).to_json() | {"slots": 9}},
            "2 ranks per node",
            id="another shape",
        ),
        pytest.param(wire.DIAGNOSE, {"kind": "dreams"}, "stacks", id="no such diagnosis"),
    ],
)
async def test_a_wrong_message_is_told_what_is_wrong(
    client: Client, path: str, body: Any, names: str
) -> None:
    status, answer = await client.post(path, body)
    assert status == 400 and names in answer["reason"]


async def test_a_body_that_is_larger_than_any_agents_is_not_read(client: Client) -> None:
    async with client.session.post(wire.JOIN, json={"storePort": "1" * BODY_LIMIT}) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("directives", "names"),
    [
        pytest.param({}, "nodes", id="no size"),
        pytest.param({"nodes": 0}, "greater than or equal to 1", id="no nodes"),
        pytest.param({"nodes": 2, "command": 3}, "checkpointAndExit", id="no command"),
        pytest.param({"nodes": 2, "hang": {"factor": 0.5, "floorSeconds": 1}}, "factor", id="impatient"),
    ],
)
async def test_wrong_directives_are_told_what_is_wrong(
    client: Client, directives: dict[str, Any], names: str
) -> None:
    status, answer = await client.direct(**directives)
    assert status == 400 and names in answer["reason"]


async def test_a_command_of_a_newer_operator_is_passed_over_and_the_rest_holds(client: Client) -> None:
    status, state = await client.direct(nodes=2, command="dream", hang={"factor": 2, "floorSeconds": 60})
    assert (status, state["directives"]["command"]) == (200, "none")
    assert state["directives"]["hang"] == HangTimeouts(factor=2.0, floor_seconds=60.0).to_json()


async def test_every_answer_names_the_epoch(replaced: Client) -> None:
    async with replaced.session.get(wire.STATE) as answer:
        assert answer.headers[wire.EPOCH_HEADER] == "2"


async def test_joins_are_answered_together_when_all_have_come(client: Client) -> None:
    first = client.join(0, port=10)
    await client.until(lambda state: state["missing"] == [1])
    assert not first.done()
    second = client.join(1, port=11)
    (_, one), (_, two) = await asyncio.gather(first, second)
    assert one == two
    assert [member["storePort"] for member in one["members"]] == [10, 11]


async def test_a_waiting_join_is_turned_away_when_its_successor_comes(client: Client) -> None:
    old = client.join(0)
    await client.until(lambda state: state["missing"] == [1])
    new = client.join(0, incarnation=1)
    assert await old == (409, {"reason": "evicted"})
    new.cancel()


async def test_a_heartbeat_waits_while_there_is_no_news_and_brings_it(client: Client) -> None:
    await client.sealed()
    known = wire.answer_token(HeartbeatResponse.from_json(await client.beat(0)))
    path = f"{wire.HEARTBEAT}?wait={LONG}&known={quote(known)}"

    async def news() -> Any:
        """As agents do: an answer that says nothing new only asks for the next heartbeat."""
        while True:
            _, body = await client.post(path, {"agent": agent(0).to_json()})
            if wire.answer_token(HeartbeatResponse.from_json(body)) != known:
                return body

    waiting = asyncio.create_task(news())
    await client.post(wire.LEAVE, agent(1).to_json())
    assert (await waiting)["rendezvousOpen"] is True


async def test_the_end_of_the_idle_connection_opens_a_new_generation(client: Client) -> None:
    await client.sealed()
    path = f"{wire.CONNECTION}?agent={quote(json.dumps(agent(1).to_json()))}"
    async with client.session.get(path) as idle:
        assert idle.status == 200
    state = await client.until(lambda state: state["state"] == "gathering")
    assert state["missing"] == [1]
    assert state["failures"][0]["failure"]["cause"] == Cause.NODE_LOST
    assert (await client.beat(0))["rendezvousOpen"] is True


async def test_an_idle_connection_that_was_given_up_before_it_was_read_says_nothing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Agents wait a second for it; a coordinator that comes late finds many of them closed."""
    sealed = await client.sealed()
    path = f"{wire.CONNECTION}?agent={quote(json.dumps(agent(0).to_json()))}"
    with socket.create_connection((client.url.host or "", client.url.port or 0)) as early:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        early.sendall(head.encode())
    await asyncio.sleep(0.3)
    state = await client.get(wire.STATE)
    assert GenerationId.from_json(state["generation"]) == sealed and state["state"] != "gathering"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_leaving_opens_a_new_generation(client: Client) -> None:
    await client.sealed()
    assert await client.post(wire.LEAVE, agent(0).to_json()) == (204, None)
    state = await client.until(lambda state: state["missing"] == [0])
    assert state["failures"][0]["failure"]["reason"] == "PodDeleted"


async def test_only_the_newest_generation_is_granted_a_commit(client: Client) -> None:
    newest = await client.sealed()
    body = {"generation": newest.to_json(), "step": 5}
    assert await client.post(wire.GRANT, body) == (200, {"granted": True, "reason": ""})
    stale = {"generation": {"epoch": 1, "number": 0}, "step": 5}
    status, answer = await client.post(wire.GRANT, stale)
    assert status == 200 and answer["granted"] is False
    rejoin = client.join(0, port=2, last_generation=newest, failure=failure())
    await client.until(lambda state: state["state"] == "gathering")
    assert (await client.post(wire.GRANT, body))[1]["granted"] is False
    rejoin.cancel()


async def test_a_replaced_coordinator_does_not_know_yet_what_to_grant(replaced: Client) -> None:
    running = sealed_by_hand(GenerationId(epoch=1, number=3))
    body = {"generation": running.generation.to_json(), "step": 5}
    assert (await replaced.post(wire.GRANT, body))[0] == 503
    members = [member.to_json() for member in running.members]
    for index in range(2):
        await replaced.beat(index, generation=running.generation.to_json(), members=members)
    assert (await replaced.post(wire.GRANT, body))[1]["granted"] is True


async def test_the_operators_command_reaches_the_agents(client: Client) -> None:
    await client.sealed()
    await client.direct(nodes=2, command="checkpointAndExit")
    assert (await client.beat(0))["command"] == "checkpointAndExit"


async def test_a_spare_learns_its_slot_from_the_seal_and_is_known_by_both_names(client: Client) -> None:
    newest = await client.sealed()
    path = f"{wire.CONNECTION}?agent={quote(json.dumps(agent(FIRST_SPARE).to_json()))}"
    async with client.session.get(path) as idle:
        assert idle.status == 200
        spare = client.join(FIRST_SPARE, port=30)
        await client.until(lambda state: len(state["waiting"]) == 1)
        await client.post(wire.LEAVE, agent(1).to_json())
        survivor = client.join(0, port=31, last_generation=newest)
        (_, body), (_, told) = await asyncio.gather(spare, survivor)
        assert body == told
        slots = [(member["agent"]["index"], member["agent"]["podName"]) for member in body["members"]]
        assert slots == [(0, "run-w0-0"), (1, f"run-w{FIRST_SPARE}-0")]
        assert (await client.beat(FIRST_SPARE))["rendezvousOpen"] is False
    state = await client.until(lambda state: state["state"] == "gathering")
    assert state["missing"] == [1], "its connection is still that of the spare"


async def test_the_operator_says_how_many_nodes_it_wants(client: Client) -> None:
    assert (await client.get(wire.STATE))["directives"] == {"nodes": 2, "command": "none"}
    status, state = await client.direct(nodes=3, minNodes=1)
    assert (status, state["missing"]) == (200, [0, 1, 2])
    assert state["directives"] == {"nodes": 3, "minNodes": 1, "command": "none"}


async def test_new_limits_are_told_to_agents_at_once(client: Client) -> None:
    await client.sealed()
    known = quote(wire.answer_token(HeartbeatResponse.from_json(await client.beat(0))))
    body, asked = {"agent": agent(0).to_json()}, {"steps": 9, "everySteps": 3, "keepLast": 2}
    waiting = asyncio.create_task(client.post(f"{wire.HEARTBEAT}?wait={LONG}&known={known}", body))
    status, state = await client.direct(nodes=2, limits=asked)
    assert (status, state["directives"]["limits"]) == (200, asked)
    _, answer = await waiting
    assert answer["limits"] == {**asked, "epoch": 1, "number": 1}


async def test_the_operator_says_what_is_a_hang(client: Client) -> None:
    before = await client.get(wire.STATE)
    hang = HangTimeouts(factor=2.0, floor_seconds=600.0, loading_seconds=7200.0).to_json()
    status, state = await client.direct(nodes=2, hang=hang)
    assert (status, state["directives"]["hang"]) == (200, hang)
    assert state["version"] > before["version"]
    assert client.server.service.coordinator.watchdog.bounds.to_json() == hang


async def test_all_members_read_the_same_large_generation(large: Client) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    headers = dict(large.session.headers)
    async with aiohttp.ClientSession(large.url, headers=headers, connector=connector) as session:
        several = Client(session, large.server, large.url)
        answers = await asyncio.gather(*(several.join(index) for index in range(300)))
    statuses, bodies = {status for status, _ in answers}, [body for _, body in answers]
    assert statuses == {200} and all(body == bodies[0] for body in bodies)
    assert len(json.dumps(bodies[0])) > 2 * PART
    assert [member["agent"]["index"] for member in bodies[0]["members"]] == list(range(300))
