"""One caller's load on costs, histories and lists, and what another one has of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.db.sqlite import READERS
from footplate_api.errors import DatabaseUnavailable
from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.caller import Caller
from footplate_api.identity.rate_limits import RateLimit, RateLimits
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.support.clock import Clock
from tests.support.review_server import within

CONNECTIONS = 25
COSTS = "/v1/costs"


@pytest.fixture
def ann(api: Api) -> dict[str, str]:
    return api.reviewer.add("anns", Caller("ann"), within("research"))


@pytest.fixture
def ben(api: Api) -> dict[str, str]:
    return api.reviewer.add("bens", Caller("ben"), within("research"))


async def test_one_caller_keeps_nobody_from_costs(api: Api, ann: dict[str, str], ben: dict[str, str]) -> None:
    statuses: Counter[int] = Counter()

    async def load() -> None:
        while True:
            answer = await api.client.get(COSTS, params={"step": "day"}, headers=ann)
            statuses[answer.status_code] += 1
            assert answer.status_code == 200 or "ann wait already" in answer.json()["detail"]

    async with asyncio.TaskGroup() as group:
        loads = [group.create_task(load()) for _ in range(CONNECTIONS)]
        for _ in range(20):
            assert (await api.client.get(COSTS, headers=ben)).status_code == 200
        for task in loads:
            task.cancel()
    assert statuses[429] and set(statuses) == {200, 429}


async def test_a_caller_with_all_places_gives_one_up_to_another(api: Api, ann: dict[str, str]) -> None:
    await api.mirrored(await api.cluster.put("research", "gpt"))
    turns = api.histories
    async with AsyncExitStack() as taken:
        for number in range(turns.at_once):
            await taken.enter_async_context(turns.acquire(f"user-{number}"))
        turns.most, turns.seconds = 2, 60.0
        waiting = [asyncio.create_task(api.client.get(f"{RUNS}/gpt/metrics", headers=ann)) for _ in range(2)]
        while turns.waiting < 2:
            await asyncio.sleep(0)
        other = asyncio.create_task(api.client.get(f"{RUNS}/gpt/metrics"))
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in done] == [503]
    assert (await other).status_code == 200


NOT_ONE = ",".join(f"label-{number} notin (a)" for number in range(20))  # looked for in all runs


@asynccontextmanager
async def held(database: Database, readers: int) -> AsyncIterator[None]:
    """So many sessions of readers that take their time, until the block ends."""
    async with AsyncExitStack() as stack:
        for _ in range(readers):
            session = await stack.enter_async_context(database.read())
            await session.execute(text("SELECT 1"))
        yield


async def test_while_all_readers_are_busy_lists_probes_and_gauges_are_answered(sqlite_url: str) -> None:
    async with running(sqlite_url, FakeCluster()) as api:
        await api.mirrored(await api.cluster.put("research", "gpt"))
        async with held(api.context.database, READERS):
            for path in (RUNS, "/v1/runs", "/readyz"):
                assert (await api.client.get(path)).status_code == 200
            assert "footplate_run_status{" in (await api.client.get("/metrics")).text
            searching = asyncio.create_task(api.client.get(RUNS, params={"labelSelector": NOT_ONE}))
            assert (await api.client.get(RUNS)).status_code == 200
            assert not searching.done(), "it waits for a reader of those that may take long"
        assert (await searching).status_code == 200


async def test_a_list_costs_its_caller_what_it_looks_at(sqlite_url: str) -> None:
    clock, access = Clock(), AccessPolicy(rates=RateLimits(RateLimit(1000.0, 4000)))
    async with running(sqlite_url, FakeCluster(), access, clock=clock) as api:
        for number in range(4):
            await api.mirrored(await api.cluster.put("research", f"run-{number}"))
        ann = api.reviewer.add("anns", Caller("ann"), within("research"))
        ben = api.reviewer.add("bens", Caller("ben"), within("research"))
        api.lists.looks_a_request = 4 * 20 / 2000  # as if there were many runs: a list is 2,000 requests

        async def statuses(headers: dict[str, str], selector: str, times: int) -> Counter[int]:
            query = {"labelSelector": selector}
            answers = await asyncio.gather(
                *(api.client.get(RUNS, params=query, headers=headers) for _ in range(times))
            )
            refused = [answer for answer in answers if answer.status_code == 429]
            assert all(answer.headers["Retry-After"] for answer in refused)
            return Counter(answer.status_code for answer in answers)

        assert (await statuses(ann, NOT_ONE, 8))[200] in (1, 2)
        assert await statuses(ben, NOT_ONE, 1) == {200: 1}
        clock.seconds += 60.0
        answer = await api.client.get(RUNS, params={"labelSelector": NOT_ONE}, headers=ann)
        assert answer.status_code == 200
        clock.seconds += 60.0
        assert await statuses(ann, "team=a", 20) == {200: 20}, "an index finds these"


async def test_a_read_that_computes_for_too_long_is_ended(sqlite_url: str) -> None:
    endless = text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n")
    database = Database(sqlite_url)
    try:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                async with database.read(0.1) as session:
                    await session.execute(endless)
            async with database.read(0.1) as session:
                assert await session.scalar(text("SELECT 1")) == 1
        async with database.write() as session:
            long = text(endless.text.replace("FROM n)", "FROM n WHERE x < 3000000)"))
            assert await session.scalar(long) == 3_000_000, "a writer takes the time that it needs"
    finally:
        await database.close()
