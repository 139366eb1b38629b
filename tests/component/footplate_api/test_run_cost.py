"""What one run has cost: the numbers of its status, by attempt and by pod, for as long as there are bills."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
import pytest_asyncio

from footplate_contracts.names import Role
from footplate_ledger.account import Account, Tariff
from footplate_ledger.conversion import format_time, parse_time
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.summary import build_cost_status
from footplate_ledger.units import Energy, HourlyRate, Seconds
from footplate_ledger.usage import LAST_SEEN, RUNNING, TOLD, EndTime, MeasuredEnergy
from tests.component.footplate_api.builders import RUNS, batch, checkpoint, eventually
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.usages import enter, price, put, record, store
from tests.support.ledger_reference import build_accounts
from tests.support.loop_lag import slowness
from tests.support.usage_worlds import CPU, DAY, H100, HOUR, RUN, T0, World, node, pod

NOW = T0 + 3 * HOUR
COST = f"{RUNS}/gpt/cost"
BUCKETS = {"productive": 7200.0, "starting": 40.5}


@pytest_asyncio.fixture
async def clocked(database_url: str) -> AsyncIterator[Api]:
    async with running(database_url, FakeCluster(), now=lambda: datetime.fromtimestamp(NOW, UTC)) as api:
        yield api


async def gpt(api: Api, **status: Any) -> None:
    made = await api.cluster.put("research", "gpt", metadata={"uid": RUN.uid}, status=status)
    await api.mirrored(made)


async def cost(api: Api, **asked: Any) -> dict[str, Any]:
    answer = await api.client.get(COST, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def told() -> World:
    """Two attempts, one of which shares its node with another run; a node that nobody told of."""
    measured = MeasuredEnergy(Energy.joules(10**7), Seconds(Fraction(9000)), Seconds(Fraction(1000)))
    other = replace(RUN, name="other", uid="uid-other")
    return World(
        [node("n1"), node("n2")],
        [
            pod("p1", measured=measured),
            pod("p2", attempt=2, node="n2", devices=4, start=T0 + HOUR, end=EndTime(RUNNING, T0 + HOUR)),
            pod("p3", attempt=2, node="n3", start=T0 + HOUR, end=EndTime(LAST_SEEN, T0 + 2 * HOUR)),
            pod("q1", owner=other, node="n2", devices=8, start=T0 + 2 * HOUR, end=EndTime(RUNNING, T0)),
        ],
    )


async def test_its_numbers_are_those_of_its_status(clocked: Api) -> None:
    world = told()
    await gpt(clocked, cost={"deviceSeconds": BUCKETS}, progress={"tokens": 4_000_000})
    await store(clocked.context.database, world.pods, world.nodes)
    await enter(clocked.context.database, "h100", price(24.6))
    found = await cost(clocked, pods=True)
    book = PriceBook([PriceBookEntry("h100", H100, HourlyRate.dollars_per_hour("24.6"), T0 - DAY)])
    each = build_accounts(world.nodes, world.pods, Tariff(book), NOW)
    whole = sum((each[uid] for uid in ("p1", "p2", "p3")), Account())
    said = build_cost_status(whole, {}, NOW).model_dump(by_alias=True, exclude={"device_seconds", "until"})
    assert {name: found["total"][name] for name in said} == said
    assert found["total"]["heldDeviceSeconds"] == 8 * HOUR + 4 * 2 * HOUR + 8 * HOUR
    assert found["deviceSeconds"] == {
        **dict.fromkeys(("checkpointing", "recomputed", "restarting", "waiting"), 0.0),
        **BUCKETS,
    }
    assert [(part["attempt"], part["dollars"]) for part in found["attempts"]] == [
        (1, 24.6),
        (2, build_cost_status(each["p2"] + each["p3"], {}, NOW).dollars),
    ]
    assert [(part["uid"], part["end"], part["estimated"]) for part in found["pods"]] == [
        ("p1", "2026-11-25T11:00:00Z", False),
        ("p2", None, False),
        ("p3", "2026-11-25T12:00:00Z", True),
    ]
    assert found["months"][0]["dollars"] == found["total"]["dollars"] and found["adjustments"] == []
    assert found["countedUntil"] == "2026-11-25T13:00:00Z"
    exact = whole.cost.money.exact / 10**9
    assert found["perMillionTokens"]["dollars"] == pytest.approx(float(exact / 4), abs=5e-5)


async def test_the_pods_of_a_run_are_told_up_to_so_many(clocked: Api) -> None:
    await gpt(clocked)
    await store(clocked.context.database, [pod(f"p{number}", devices=2) for number in range(4)], [node()])
    costs = clocked.state.costs
    clocked.state.costs = replace(costs, most_pods=4, pods_at_once=3)
    found = await cost(clocked, pods=True)
    assert [(part["uid"], part["nodeSeconds"]) for part in found["pods"]] == [
        (f"p{number}", HOUR / 4) for number in range(4)
    ]
    clocked.state.costs = replace(costs, most_pods=3)
    answer = await clocked.client.get(COST, params={"pods": True})
    assert answer.status_code == 422
    [wrong] = answer.json()["errors"]
    assert (wrong["field"], wrong["value"]) == ("query.pods", "true")
    assert wrong["message"].startswith("must be false for a run with 4 pods")
    assert (await cost(clocked))["total"]["nodeSeconds"] == HOUR


async def test_an_attempt_has_the_seconds_until_the_next_one_begins(clocked: Api) -> None:
    """The first pod trains in both; what there was before the first attempt is its own."""
    numbers = {1: T0 + 60, 2: T0 + HOUR // 2}
    begun = [{"number": number, "start": format_time(start)} for number, start in numbers.items()]
    await gpt(clocked, attempts=begun)
    later = pod("p2", node="n2", start=T0 + HOUR // 2, end=EndTime(TOLD, T0 + HOUR))
    await store(clocked.context.database, [pod("p1"), later], [node("n1"), node("n2")])
    await enter(clocked.context.database, "h100", price(36))
    found = await cost(clocked)
    assert [(part["attempt"], part["nodeSeconds"]) for part in found["attempts"]] == [(1, 1800), (2, 3600)]
    assert [part["dollars"] for part in found["attempts"]] == [18.0, 36.0]
    assert found["total"]["dollars"] == 54.0


async def test_a_coordinator_is_told_apart_and_costs_what_has_a_price(clocked: Api) -> None:
    await gpt(clocked)
    coordinator = pod("c", role=Role.COORDINATOR, node="n2", sku=CPU, devices=0, cpu=Fraction(1))
    there = node("n2", sku=CPU, devices=0, cpu=Fraction(4))
    await store(clocked.context.database, [pod(), coordinator], [node(), there])
    await enter(clocked.context.database, "h100", price(10))
    found = await cost(clocked)
    assert (found["total"]["dollars"], found["coordinator"]["dollars"]) == (10.0, None)
    assert found["total"]["unpricedNodeSeconds"] == found["coordinator"]["nodeSeconds"] == 0
    await enter(clocked.context.database, "cpu", price(2, sku=CPU))
    found = await cost(clocked)
    assert (found["total"]["dollars"], found["coordinator"]["dollars"]) == (10.5, 0.5)


async def test_a_coordinator_among_thousands_on_one_node_is_told_quickly(clocked: Api) -> None:
    """Each second is shared with fifty others, and 4,000 come and go; in three months and by nine prices."""
    await gpt(clocked)
    start, there = NOW - 80 * DAY, EndTime(TOLD, NOW)
    mine = pod(
        "c", role=Role.COORDINATOR, node="n2", sku=CPU, devices=0, cpu=Fraction(1), start=start, end=there
    )
    database, other = clocked.context.database, replace(RUN, name="other", uid="uid-other")
    for first in range(0, 4000, 1000):
        begin = {number: start + number * 72 for number in range(first, first + 1000)}
        await store(
            database,
            [
                replace(mine, uid=f"o{number}", owner=other, start=since, end=EndTime(TOLD, since + HOUR))
                for number, since in begin.items()
            ],
        )
    await store(database, [mine], [node("n2", sku=CPU, devices=0, cpu=Fraction(100), start=start)])
    for number in range(9):
        spec = price(2 + number, since=start, sku=CPU)
        await enter(database, f"cpu-{number}", spec, created=start + number * 8 * DAY)
    begun = time.process_time()
    found = await cost(clocked)
    seconds = time.process_time() - begun
    print(f"{seconds:.2f} s")
    assert seconds / slowness() < 1
    assert found["total"]["nodeSeconds"] == pytest.approx(80 * DAY / 100)
    months = sum(part["dollars"] for part in (*found["months"], *found["adjustments"]))
    assert months == pytest.approx(found["total"]["dollars"], abs=0.01) and found["adjustments"]


async def test_so_many_wait_for_their_turn_and_the_others_are_told_to_come_back(clocked: Api) -> None:
    await gpt(clocked)
    turns = clocked.turns
    async with AsyncExitStack() as taken:
        for number in range(turns.at_once):
            await taken.enter_async_context(turns.acquire(f"user-{number}"))
        turns.most, turns.seconds = 1, 60.0
        first = asyncio.create_task(clocked.client.get(COST))
        await eventually(lambda: asyncio.sleep(0, turns.waiting), lambda waiting: waiting == 1)
        for path in (COST, "/v1/costs"):
            answer = await clocked.client.get(path)
            assert (answer.status_code, answer.json()["title"]) == (503, "Too many cost queries")
            assert answer.headers["Retry-After"] == "5"
        turns.most, turns.seconds = 2, 0.0
        assert "Other cost queries take long" in (await clocked.client.get(COST)).json()["detail"]
    assert (await first).status_code == 200 and turns.waiting == 0


async def test_what_a_checkpoint_cost(clocked: Api) -> None:
    await gpt(clocked)
    await store(clocked.context.database, [pod()], [node()])
    await enter(clocked.context.database, "h100", price(10))
    assert (await cost(clocked))["perCheckpoint"] is None
    sent = batch(RUN.uid, checkpoints=[checkpoint(step) for step in (10, 20, 30, 40)])
    headers = await clocked.coordinator(RUN.uid)
    assert (await clocked.client.post(f"{RUNS}/gpt/telemetry", json=sent, headers=headers)).status_code == 200
    found = await cost(clocked)
    assert (found["checkpoints"], found["perCheckpoint"]["dollars"]) == (4, 2.5)
    assert found["perMillionTokens"] is None  # it has trained none


async def test_months_and_adjustments_are_together_the_total(clocked: Api) -> None:
    start = parse_time("2026-10-31T23:00:00Z")
    await gpt(clocked)
    await store(
        clocked.context.database,
        [pod(start=start, end=EndTime(TOLD, start + 3 * HOUR))],
        [node(start=start)],
    )
    await enter(clocked.context.database, "wrong", price(10, since=start), created=start - DAY)
    await enter(clocked.context.database, "right", price(11, since=start, supersedes="wrong"), created=T0)
    found = await cost(clocked)
    assert [(month["from"], month["to"], month["dollars"]) for month in found["months"]] == [
        ("2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z", 10.0),
        ("2026-11-01T00:00:00Z", "2026-11-01T02:00:00Z", 22.0),
    ]
    assert [(known["at"], known["dollars"]) for known in found["adjustments"]] == [
        ("2026-11-25T10:00:00Z", 1.0)
    ]
    assert found["total"]["dollars"] == 33.0


async def test_a_month_without_a_price_has_cost_nobody_knows_what(clocked: Api) -> None:
    await gpt(clocked)
    await store(clocked.context.database, [pod()], [node()])
    found = await cost(clocked)
    assert [month["dollars"] for month in found["months"]] == [None] == [found["total"]["dollars"]]


async def test_a_price_by_a_clock_that_is_ahead_is_in_total_and_months_alike(clocked: Api) -> None:
    await gpt(clocked)
    await store(clocked.context.database, [pod()], [node()])
    await enter(clocked.context.database, "first", price(10))
    await enter(clocked.context.database, "ahead", price(50, since=T0 - 100), created=NOW + 3)
    found = await cost(clocked)
    assert [month["dollars"] for month in found["months"]] == [50.0] == [found["total"]["dollars"]]
    assert found["adjustments"] == []


async def test_a_run_that_came_and_went_unseen_has_its_cost(clocked: Api) -> None:
    await enter(clocked.context.database, "h100", price(10))
    await put(clocked.cluster, "uid-gpt-0", record([pod()], completed=True))

    async def status() -> int:
        return (await clocked.client.get(COST)).status_code

    await eventually(status, lambda seen: seen == 200)
    found = await cost(clocked, uid=RUN.uid)
    assert (found["uid"], found["total"]["dollars"], found["tokens"]) == (RUN.uid, 10.0, 0)
    await clocked.cluster.make_namespace("research", "2026-11-25T12:00:00Z")
    await eventually(status, lambda seen: seen == 404)
    assert (await cost(clocked, formerNamespaces=True))["uid"] == RUN.uid


async def test_a_run_that_used_nothing_has_cost_nothing_known(clocked: Api) -> None:
    await gpt(clocked)
    found = await cost(clocked, pods=True)
    assert (found["total"]["dollars"], found["total"]["nodeSeconds"]) == (None, 0)
    assert (found["attempts"], found["pods"], found["months"]) == ([], [], [])
    assert found["deviceSeconds"] is None


@pytest.mark.parametrize("asked", [{}, {"uid": "another"}])
async def test_nothing_is_told_of_a_run_that_was_never_seen(clocked: Api, asked: dict[str, str]) -> None:
    if asked:
        await gpt(clocked)
    answer = await clocked.client.get(COST, params=asked)
    assert (answer.status_code, answer.json()["title"]) == (404, "Run not found")


async def test_costs_say_since_when_usage_is_not_heard_of(clocked: Api) -> None:
    await gpt(clocked)

    async def stale(path: str) -> str | None:
        return (await clocked.client.get(path)).headers.get("Footplate-Stale-Since")

    await eventually(lambda: stale(COST), lambda said: said is None)
    clocked.context.mirror.troubles["UsageRecords"] = "away"
    assert await stale(COST) == "2026-11-25T13:00:00+00:00"
    assert await stale(f"{RUNS}/gpt") is None
