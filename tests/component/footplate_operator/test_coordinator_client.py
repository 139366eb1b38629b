"""The long-poll over real TLS: who is believed, what is told, and what silence means."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from cluster.machine.ports import claim_ports
from footplate_contracts.coordinator_state import (
    CoordinatorState,
    MissedAgent,
    NumberedFailure,
    RunState,
    UnreachablePair,
    Verdict,
)
from footplate_contracts.directives import Command, Directives, GoneWorker, HangTimeouts, Limits
from footplate_contracts.energy import MOST_PODS, PodEnergy
from footplate_contracts.failures import MESSAGE_LIMIT, FailureReport
from footplate_contracts.names import FIRST_SPARE, Cause, RunUid
from footplate_contracts.rendezvous import AgentIdentity, Member
from footplate_operator.errors import CoordinatorUnreachable
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.coordinator_client import (
    ANSWER_BYTES,
    ANSWER_VALUES,
    CoordinatorClient,
    CoordinatorEndpoint,
    CoordinatorPoller,
)
from tests.support.certificates import any_credentials
from tests.support.web import needs_ipv6

HOST = "tiny-coordinator.default.svc"
KEY = Key("default", "tiny")
RUN = RunUid("r")
DIRECTIVES = Directives(
    nodes=3,
    min_nodes=2,
    hang=HangTimeouts(factor=2.0, floor_seconds=600.0),
    limits=Limits(steps=9, every_steps=3, keep_last=2),
    command=Command.CHECKPOINT_AND_EXIT,
)


@dataclass
class Served:
    """A coordinator of a few lines; `version` grows when the test says so."""

    credentials: RunCredentials
    port: int
    address: str = "127.0.0.1"
    version: int = 1
    status: int = 200
    body: str | bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)  # of an answer
    tokens: list[str] = field(default_factory=list)  # that were sent to it
    accepted: set[str] = field(default_factory=set)  # encodings that were asked for
    said: list[tuple[str, object]] = field(default_factory=list)  # path and body
    news: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)  # what it is told is answered only then

    def __post_init__(self) -> None:
        self.answering.set()

    def endpoint(self, **changes: object) -> CoordinatorEndpoint:
        """Where and how it is found, with `changes`."""
        known = {
            "pod_uid": "u",
            "epoch": 1,
            "address": self.address,
            "host": HOST,
            "token": self.credentials.token,
            "certificate": self.credentials.certificate.decode(),
            "port": self.port,
        }
        return CoordinatorEndpoint(**{**known, **changes})

    def send_directives(self) -> None:
        """There is news."""
        self.version += 1
        self.news.set()

    async def state(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers["Authorization"])
        if request.headers["Authorization"] != f"Bearer {self.credentials.token}":
            return web.json_response({"reason": "who are you"}, status=401)
        if int(request.query["after"]) >= self.version:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), float(request.query["wait"]))
        self.accepted.add(request.headers["Accept-Encoding"])
        body = self.body or self._view()
        sent = body.encode() if isinstance(body, str) else body
        return web.Response(body=sent, status=self.status, headers=self.headers)

    async def told(self, request: web.Request) -> web.Response:
        self.said.append((request.path, await request.json()))
        answer = web.Response(text=self._view())
        await self.answering.wait()
        return answer

    def _view(self) -> str:
        state = CoordinatorState(version=self.version, epoch=1, state=RunState.TRAINING)
        return state.model_dump_json(by_alias=True, exclude_none=True)


@asynccontextmanager
async def serving(served: Served, folder: Path) -> AsyncIterator[None]:
    """Serve over TLS with the run's own certificate."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(served.credentials.certificate)
    key.write_bytes(served.credentials.private_key)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    app = web.Application()
    app.add_routes([web.get("/v1/state", served.state), web.put("/v1/directives", served.told)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, served.address, served.port, ssl_context=tls).start()
    try:
        yield
    finally:
        await runner.cleanup()


def new_served() -> Served:
    return Served(any_credentials(HOST, "tiny-coordinator"), claim_ports(1)[0])


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def until(look: Callable[[], bool]) -> None:
    for _ in range(200):
        if look():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not within 10 s")


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
async def test_state_and_directives(session: aiohttp.ClientSession, tmp_path: Path, address: str) -> None:
    served = new_served()
    served.address = address
    async with serving(served, tmp_path):
        client = CoordinatorClient(session, served.endpoint())
        assert (await client.state(-1, 1)).state is RunState.TRAINING
        await client.send_directives(DIRECTIVES)
        assert served.said == [("/v1/directives", DIRECTIVES.to_json())]


async def test_energy_that_cannot_be_hides_nothing_else_and_is_said_once(
    session: aiohttp.ClientSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = new_served()
    sums = [
        {"podUid": uid, "millijoules": amount, "counterSeconds": 8, "powerSeconds": 0}
        for uid, amount in (("a", 5), ("b", 2**64 - 1))
    ]
    served.body = json.dumps({"version": 1, "epoch": 1, "state": "training", "energy": sums})
    async with serving(served, tmp_path):
        client = CoordinatorClient(session, served.endpoint())
        for _ in range(2):
            state = await client.state(-1, 1)
            assert [told.pod_uid for told in state.energy] == ["a"] and state.state is RunState.TRAINING
    [line] = caplog.records
    assert "1000000000000000, not '18446744073709551615'" in vars(line)["fields"]["why"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"token": "guessed"}, "HTTP 401", id="wrong-token"),
        pytest.param({"certificate": None}, "ServerFingerprintMismatch", id="certificate-of-another-run"),
    ],
)
async def test_only_the_coordinator_of_the_run_is_believed_and_no_other_learns_the_token(
    session: aiohttp.ClientSession, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    served = new_served()
    if "certificate" in changes:
        changes = {"certificate": new_served().credentials.certificate.decode()}
    async with serving(served, tmp_path):
        with pytest.raises(CoordinatorUnreachable, match=says):
            await CoordinatorClient(session, served.endpoint(**changes)).state(-1, 1)
    assert served.tokens == ([f"Bearer {changes['token']}"] if "token" in changes else [])


async def test_a_connection_to_one_run_is_none_to_another(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Not even where a pod has the address that one of another run had."""
    served = new_served()
    other = new_served().credentials
    async with serving(served, tmp_path):
        await CoordinatorClient(session, served.endpoint()).state(-1, 1)
        with pytest.raises(CoordinatorUnreachable, match="ServerFingerprintMismatch"):
            endpoint = served.endpoint(certificate=other.certificate.decode(), token=other.token)
            await CoordinatorClient(session, endpoint).state(-1, 1)
    assert served.tokens == [f"Bearer {served.credentials.token}"]


@pytest.mark.parametrize(
    ("status", "body"),
    [pytest.param(503, "busy", id="an-error"), pytest.param(200, '{"version": "x"}', id="not-a-state")],
)
async def test_an_answer_that_is_none_is_silence(
    session: aiohttp.ClientSession, tmp_path: Path, status: int, body: str
) -> None:
    served = new_served()
    served.status, served.body = status, body
    async with serving(served, tmp_path):
        with pytest.raises(CoordinatorUnreachable):
            await CoordinatorClient(session, served.endpoint()).state(-1, 1)


def with_more(more: str) -> str:
    return f'{{"version": 1, "epoch": 1, "state": "training", {more}}}'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(
            with_more(f'"x": "{" " * ANSWER_BYTES}"'), f"longer than {ANSWER_BYTES} bytes", id="long"
        ),
        pytest.param(
            with_more(f'"x": [{"[]," * (ANSWER_VALUES // 2)}[]]'),
            f"at most {ANSWER_VALUES} values, not {ANSWER_VALUES + 6}",
            id="of-many-values",
        ),
        pytest.param(
            with_more(f'"missing": [{"1," * MOST_PODS}1]'),
            rf"missing: List should have at most {MOST_PODS} items",
            id="of-more-agents-than-a-run-has",
        ),
    ],
)
async def test_an_answer_that_is_larger_than_any_runs_is_silence(
    session: aiohttp.ClientSession, tmp_path: Path, body: str, says: str
) -> None:
    served = new_served()
    served.body = body
    async with serving(served, tmp_path):
        with pytest.raises(CoordinatorUnreachable, match=says):
            await CoordinatorClient(session, served.endpoint()).state(-1, 1)


async def test_nothing_is_unpacked(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    served = new_served()
    served.body, served.headers = gzip.compress(with_more('"x": 1').encode()), {"Content-Encoding": "gzip"}
    async with serving(served, tmp_path):
        with pytest.raises(CoordinatorUnreachable, match="unreadable response"):
            await CoordinatorClient(session, served.endpoint()).state(-1, 1)
    assert served.accepted == {"identity"}


async def test_the_largest_run_is_heard(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """With the longest names, and all of it missed."""

    def agent(index: int) -> AgentIdentity:
        return AgentIdentity(
            index=index,
            incarnation=1000,
            pod_name=f"{'x' * 50}-{index}-1000",
            pod_uid="x" * 36,
            node_name="n" * 253,
            address="fd00:1234:5678:9abc:def0:1234:5678:9abc",
            local_world_size=8,
        )

    nodes, spares = range(4096), range(FIRST_SPARE, FIRST_SPARE + 256)
    report = FailureReport(cause=Cause.USER_ERROR, reason="x" * 64, message="€" * MESSAGE_LIMIT, time=1.0)
    energy = PodEnergy(pod_uid="x" * 36, millijoules=10**14, counter_seconds=10**8, power_seconds=10**8)
    state = CoordinatorState(
        version=1,
        epoch=1,
        state=RunState.GATHERING,
        directives=Directives(
            nodes=4096, gone=[GoneWorker(index=index, incarnation=1000, ended=True) for index in nodes]
        ),
        members=[
            Member(agent=agent(index), group_rank=index, first_rank=8 * index, store_port=29500)
            for index in nodes
        ],
        missing=list(nodes),
        missed=[
            MissedAgent(agent=agent(index), verdict=Verdict.UNREACHABLE, seconds=1234.5678) for index in nodes
        ],
        unreachable=[UnreachablePair(one=agent(0), other=agent(1))] * 32,
        waiting=[agent(index) for index in spares],
        failures=[NumberedFailure(number=1, agent=agent(0), failure=report)] * 32,
        energy=[energy] * MOST_PODS,
    )
    served = new_served()
    served.body = state.model_dump_json(by_alias=True, exclude_none=True)
    async with serving(served, tmp_path):
        assert await CoordinatorClient(session, served.endpoint()).state(-1, 20) == state


async def test_news_is_told_once_and_the_last_word_stays(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    served, told = new_served(), list[Key]()
    watchers = CoordinatorPoller(partial(CoordinatorClient, session), told.append)
    async with serving(served, tmp_path):
        watchers.follow(KEY, RUN, served.endpoint())
        await until(lambda: len(told) == 1)
        served.send_directives()
        await until(lambda: len(told) == 2)
        watchers.follow(KEY, RUN, served.endpoint())
        await asyncio.sleep(0.3)
        assert len(told) == 2, "following again is no news"
    known = watchers.state(RUN)
    assert known.version == 2
    await asyncio.sleep(0.5)
    assert watchers.state(RUN) == known, "silence says nothing about the run"
    async with serving(served, tmp_path):
        served.send_directives()
        await until(lambda: len(told) == 3)
    await watchers.close()


async def test_a_late_answer_replaces_no_newer_word(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    served, told = new_served(), list[Key]()
    watchers = CoordinatorPoller(partial(CoordinatorClient, session), told.append)
    async with serving(served, tmp_path):
        watchers.follow(KEY, RUN, served.endpoint())
        await until(lambda: len(told) == 1)
        served.answering.clear()
        watchers.send_directives(RUN, DIRECTIVES)
        await until(lambda: bool(served.said))
        served.send_directives()
        await until(lambda: len(told) == 2)
        telling = watchers._watches[RUN].telling
        assert telling is not None
        served.answering.set()
        await telling
        known = watchers.state(RUN)
        assert known.version == 2
        await watchers.close()


async def test_the_newest_word_is_told_until_it_is_there(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    served, told = new_served(), list[Key]()
    watchers = CoordinatorPoller(partial(CoordinatorClient, session), told.append)
    newer = DIRECTIVES.model_copy(update={"nodes": 2})
    watchers.send_directives(RUN, DIRECTIVES)  # nobody is listened to yet
    watchers.follow(KEY, RUN, served.endpoint())
    watchers.send_directives(RUN, DIRECTIVES)
    await asyncio.sleep(0)
    watchers.send_directives(RUN, newer)
    async with serving(served, tmp_path):
        await until(lambda: bool(served.said))
        served.answering.clear()
        served.said.clear()
        watchers.send_directives(RUN, DIRECTIVES)
        await until(lambda: bool(served.said))
        watchers.send_directives(RUN, None)
        served.answering.set()
        watchers.send_directives(RUN, newer)
        await until(lambda: len(served.said) == 2)
    assert [body for _, body in served.said] == [DIRECTIVES.to_json(), newer.to_json()]
    watchers.forget(RUN)
    assert not watchers.state(RUN).is_received
    await watchers.close()
