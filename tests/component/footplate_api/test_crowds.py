"""Strangers who flood, callers who hurry, a Kubernetes that is gone for minutes: who is served then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import islice

import pytest

from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.authentication import AT_ONCE, WAITING
from footplate_api.identity.caller import Caller
from footplate_api.identity.rate_limits import RateLimit, RateLimits
from footplate_api.identity.review_cache import FRESH_SECONDS, RETRY_SECONDS, STALE_SECONDS
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.support.clock import Clock
from tests.support.review_server import FakeReviewer, within

RUN = f"{RUNS}/gpt"
SLOW = 5.0  # seconds; whoever waited for every answer that does not come would wait for longer
STRANGERS = 2000


class HeldReviewer(FakeReviewer):
    """One that answers when it is told to: `held` about strangers, or `silent` about anybody."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.held = self.silent = False
        self.answers = asyncio.Event()
        self.reviewed = 0

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Caller | None:
        self.reviewed += 1
        if self.silent or (self.held and token not in self.tokens):
            await self.answers.wait()
        return await super().authenticate(token, audiences)

    async def is_allowed(self, caller: Caller, right: object) -> bool:
        if self.silent:
            await self.answers.wait()
        return await super().is_allowed(caller, right)


async def test_strangers_with_ever_new_tokens_keep_nobody_waiting(sqlite_url: str) -> None:
    reviewer, clock = HeldReviewer(), Clock()
    async with running(sqlite_url, FakeCluster(), reviewer=reviewer, clock=clock) as api:
        headers = reviewer.add("alices", Caller("alice"), within("research"))
        assert (await api.client.get(RUNS, headers=headers)).status_code == 200
        reviewer.held, before = True, reviewer.reviewed
        flood = [
            asyncio.create_task(api.client.get(RUNS, headers={"Authorization": f"Bearer garbage-{number}"}))
            for number in range(STRANGERS)
        ]
        for refused in islice(asyncio.as_completed(flood), STRANGERS - AT_ONCE - WAITING):
            assert (await refused).status_code == 503
        for _ in range(5):
            clock.seconds += FRESH_SECONDS
            assert (await api.client.get(RUNS, headers=headers)).status_code == 200
        assert reviewer.reviewed == before + AT_ONCE + 5
        reviewer.answers.set()
        answers = await asyncio.gather(*flood)
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) == {401, 503} and counts[401] >= AT_ONCE  # the others may have waited for too long
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)


async def test_who_calls_too_often_is_told_when_to_come_back_before_a_body_is_read(sqlite_url: str) -> None:
    clock, access = Clock(), AccessPolicy(rates=RateLimits(RateLimit(0.5, 3), RateLimit(1.0, 2)))
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    async with running(sqlite_url, FakeCluster(), access, clock=clock) as api:
        await api.context.startup.wait()
        assert [await status(api) for _ in range(3)] == [200] * 3
        refused = await api.client.post(RUNS, content=body())
        assert refused.status_code == 429 and refused.headers["retry-after"] == "2"
        assert refused.json()["type"] == "urn:footplate:problem:too-many-requests"
        assert "admin may send 0.5 such requests per second" in refused.json()["detail"]
        sent = [(await api.client.post(f"{RUN}/telemetry")).status_code for _ in range(2)]
        sent += [(await api.client.post(f"{RUN}/telemetry", content=body())).status_code]
        assert sent[2] == 429 and 429 not in sent[:2]
        assert read == 0
        assert (await api.client.get("/metrics")).status_code == 200
        assert (await api.client.get("/readyz")).status_code == 200
        bob = api.reviewer.add("bobs", Caller("bob"), within("research"))
        assert (await api.client.get(RUNS, headers=bob)).status_code == 200
        clock.seconds += 2.0
        assert [await status(api) for _ in range(2)] == [200, 429]


async def status(api: Api) -> int:
    return (await api.client.get(RUNS)).status_code


@pytest.mark.parametrize("silent", [False, True], ids=["gone", "silent"])
async def test_while_kubernetes_is_gone_for_minutes_people_read_on_and_write_nothing(
    sqlite_url: str, silent: bool
) -> None:
    reviewer, cluster, clock = HeldReviewer(), FakeCluster(), Clock()
    async with running(sqlite_url, cluster, reviewer=reviewer, clock=clock) as api:
        await api.mirrored(await cluster.put("research", "gpt"))
        viewer = reviewer.add("viewers", Caller("viewer"), within("research"))
        editor = reviewer.add("editors", Caller("editor"), within("research", verbs=("list", "create")))
        new = {"metadata": {"name": "new"}, "spec": {}}
        assert (await api.client.post(RUNS, json=new, headers=editor)).status_code == 201
        for headers, path in ((viewer, RUNS), (viewer, RUN), (editor, RUNS)):
            assert (await api.client.get(path, headers=headers)).status_code == 200

        began, cluster.available = clock.seconds, False
        reviewer.available, reviewer.silent = silent, silent
        waits = 0
        while clock.seconds < began + 10 * 60:
            clock.seconds += FRESH_SECONDS
            started = asyncio.get_running_loop().time()
            for path in (RUNS, RUN, f"{RUN}/metrics"):
                assert (await api.client.get(path, headers=viewer)).status_code == 200
            answer = await api.client.post(RUNS, json=new, headers=editor)
            assert answer.status_code == 503 and answer.headers["retry-after"]
            waits += asyncio.get_running_loop().time() - started > SLOW
        assert waits <= 1  # the first question is waited for
        assert set(cluster.objects) == {("research", "gpt"), ("research", "new")}

        clock.seconds = began + STALE_SECONDS + 1
        if not silent:  # else somebody would wait here as long as the client waits
            assert (await api.client.get(RUNS, headers=viewer)).status_code == 503
        cluster.available, reviewer.available, reviewer.silent = True, True, False
        reviewer.answers.set()
        clock.seconds += RETRY_SECONDS
        assert (await api.client.get(RUNS, headers=viewer)).status_code == 200
        assert (await api.client.delete(RUN, headers=viewer)).status_code == 403
