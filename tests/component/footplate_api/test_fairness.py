"""One caller's load on costs, histories and lists, and what another one has of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from footplate_api.identity.caller import Caller
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api
from tests.support.reviewer import within

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
            await taken.enter_async_context(turns.turn(f"user-{number}"))
        turns.most, turns.seconds = 2, 60.0
        waiting = [asyncio.create_task(api.client.get(f"{RUNS}/gpt/metrics", headers=ann)) for _ in range(2)]
        while turns.waiting < 2:
            await asyncio.sleep(0)
        other = asyncio.create_task(api.client.get(f"{RUNS}/gpt/metrics"))
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in done] == [503]
    assert (await other).status_code == 200
