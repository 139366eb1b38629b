"""Costs over all runs: whose they are, when they were, and that they are together what the nodes cost."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
import pytest_asyncio

from footplate_api.app_context import AppContext
from footplate_api.costs import aggregation
from footplate_api.costs.aggregation import KeyFunctions
from footplate_api.db.database import Database
from footplate_api.identity.caller import Caller
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.tariff.service import TariffReader
from footplate_contracts.names import REQUESTED_BY_ANNOTATION, Role
from footplate_ledger.cost_sums import CostAggregator, PeriodRates
from footplate_ledger.intervals import Interval
from footplate_ledger.node_shares import infer_nodes
from footplate_ledger.usage import LAST_SEEN, TOLD, EndTime, Owner, PowerProfile
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.threaded import served
from tests.component.footplate_api.usages import enter, enter_all, price, store
from tests.support.ledger_reference import bill_lines
from tests.support.review_server import FakeReviewer, within
from tests.support.usage_worlds import CPU, DAY, H100, HOUR, SPOT, T0, node, pod, sum_of, world

COSTS = "/v1/costs"
NOW = T0 + 2 * HOUR
WINDOW = {"from": "2026-11-25T00:00:00Z", "to": "2026-11-26T00:00:00Z"}
LONGEST_BITE = 0.1  # seconds of CPU


@pytest_asyncio.fixture
async def clocked(database_url: str) -> AsyncIterator[Api]:
    async with running(database_url, FakeCluster(), now=lambda: datetime.fromtimestamp(NOW, UTC)) as api:
        yield api


def owner(number: int, namespace: str = "research") -> Owner:
    return Owner("TrainingRun", namespace, f"run-{number}", f"uid-{number}")


async def rows(api: Api, **asked: Any) -> list[dict[str, Any]]:
    answer = await api.client.get(COSTS, params={**WINDOW, **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def by_group(found: list[dict[str, Any]], amount: str = "dollars") -> dict[tuple[str | None, ...], float]:
    return {(row["kind"], *row["group"].values()): row[amount] for row in found}


@pytest.mark.parametrize("seed", range(4))
async def test_runs_and_idle_together_are_the_nodes_in_every_window(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    made = world(chance, pods=30)
    now = T0 + 45 * DAY
    await store(database, made.pods, made.nodes)
    await enter_all(database, made.entries)
    tariff = await TariffReader(database).read()
    unseen = [used for used in made.pods if used.node == "n3" and used.role is not Role.COORDINATOR]
    for _ in range(4):
        start = T0 + chance.randrange(-DAY, 40 * DAY)
        window = Interval(start, start + chance.randrange(1, 20 * DAY))
        cost_sums = CostAggregator(tariff, now, [window.start, window.end])
        keys = KeyFunctions(lambda used: used.owner.namespace, lambda sku: "idle")
        async with database.read() as session:
            await aggregation.add_usage(session, cost_sums, window, keys, idle=True)
        rates = PeriodRates(tariff.book)
        told = sum(
            (cost_sum.priced(rates).cost().money for cost_sum in cost_sums.found.values()), sum_of([]).money
        )
        nodes = [*made.nodes, *(there for there, _ in infer_nodes(unseen, now))]
        assert told == sum_of(bill_lines(nodes, [], made.book, now, window)).money


async def test_costs_are_told_by_what_a_run_has_and_by_its_nodes(clocked: Api) -> None:
    for number, (team, user, queue) in enumerate([("red", "alice", "big"), ("blue", "alice", "small")]):
        await clocked.cluster.put(
            "research",
            f"run-{number}",
            {"queue": queue},
            metadata={
                "uid": f"uid-{number}",
                "labels": {"team": team},
                "annotations": {REQUESTED_BY_ANNOTATION: user},
            },
        )
        await clocked.mirrored(clocked.cluster.objects["research", f"run-{number}"])
    pods = [
        pod("p0", owner=owner(0)),
        pod("p1", owner=owner(1), node="n2", sku=SPOT),
        pod("p2", owner=owner(2, "other"), node="n3"),
    ]
    nodes = [node("n1"), node("n2", sku=SPOT), node("n3")]
    await store(clocked.context.database, pods, nodes)
    await enter(clocked.context.database, "h100", price(10))
    await enter(clocked.context.database, "spot", price(4, sku=SPOT))
    for dimension, expected in {
        "namespace": {("usage", "research"): 14.0, ("usage", "other"): 10.0},
        "queue": {("usage", "big"): 10.0, ("usage", "small"): 4.0, ("usage", None): 10.0},
        "owner": {("usage", "alice"): 14.0, ("usage", None): 10.0},
        "label:team": {("usage", "red"): 10.0, ("usage", "blue"): 4.0, ("usage", None): 10.0},
        "profile": {("usage", "h100"): 24.0},
        "capacity": {("usage", "OnDemand"): 20.0, ("usage", "Spot"): 4.0},
        "capacity,namespace": {
            ("usage", "OnDemand", "research"): 10.0,
            ("usage", "OnDemand", "other"): 10.0,
            ("usage", "Spot", "research"): 4.0,
        },
    }.items():
        assert by_group(await rows(clocked, groupBy=dimension)) == expected, dimension
    idle = by_group(await rows(clocked, groupBy="namespace,capacity", idle=True))
    assert idle["idle", None, "OnDemand"] == 20.0 and idle["idle", None, "Spot"] == 4.0


async def test_what_nobody_held_is_shared_out_among_those_who_held_such_nodes(clocked: Api) -> None:
    pods = [
        pod("p0", owner=owner(0, "one"), devices=4),
        pod("p1", owner=owner(1, "two"), node="n2", devices=2),
        pod("p2", owner=owner(2, "two"), node="n3", sku=SPOT),
    ]
    nodes = [node("n1"), node("n2"), node("n3", sku=SPOT), node("n4", sku=CPU)]
    over = EndTime(TOLD, T0 + HOUR)
    await store(clocked.context.database, pods, [replace(there, end=over) for there in nodes])
    for name, sku, dollars in (("h100", H100, 12), ("spot", SPOT, 4), ("cpu", CPU, 1)):
        await enter(clocked.context.database, name, price(dollars, sku=sku))
    found = {row["group"]["namespace"]: row for row in await rows(clocked, shareIdle=True)}
    assert {
        name: (row["kind"], row["dollars"], row["idleDollars"], row["idleNodeSeconds"])
        for name, row in found.items()
    } == {
        "one": ("usage", 6.0, 10.0, HOUR * 5 / 6),  # two thirds of the 15 dollars that nobody held
        "two": ("usage", 7.0, 5.0, HOUR * 5 / 12),
        None: ("idle", 1.0, None, None),  # nobody held such a node
    }
    apart = await rows(clocked, idle=True)
    assert sum(row["dollars"] for row in apart) == 6 + 7 + 15 + 1
    assert {row["idleDollars"] for row in apart} == {None}


async def test_a_row_says_what_is_known_of_it(clocked: Api) -> None:
    database = clocked.context.database
    await store(
        database,
        [
            pod("p0"),
            pod("p1", node="n2", end=EndTime(LAST_SEEN, T0 + 60), sku=replace(H100, profile="other")),
            pod(
                "p2",
                node="n3",
                sku=CPU,
                devices=0,
                role=Role.COORDINATOR,
                cpu=Fraction(1),
                site=PowerProfile(),
            ),
        ],
        [
            node("n1"),
            node("n2", sku=replace(H100, profile="other")),
            node("n3", sku=CPU, devices=0, cpu=Fraction(4)),
        ],
    )
    await enter(database, "h100", price(24.6))
    [row] = await rows(clocked)
    assert (row["dollars"], row["coordinatorDollars"]) == (24.6, 0.0)
    assert (row["nodeSeconds"], row["unpricedNodeSeconds"]) == (HOUR + 60, 60)
    assert (row["estimatedNodeSeconds"], row["deviceSeconds"]) == (60, 8 * (HOUR + 60))
    assert row["kilowattHours"] == pytest.approx(7.92 * 61 / 60) and row["carbonKilograms"] > 0
    await enter(database, "cpu", price(2, sku=CPU))
    [row] = await rows(clocked)
    assert (row["dollars"], row["coordinatorDollars"]) == (25.1, 0.5)


async def test_what_nobody_has_priced_is_null(clocked: Api) -> None:
    await store(clocked.context.database, [pod(site=PowerProfile())], [node()])
    [row] = await rows(clocked)
    assert (row["dollars"], row["kilowattHours"], row["carbonKilograms"]) == (None, None, None)
    assert row["unpricedNodeSeconds"] == row["nodeSeconds"] == HOUR


STEPS = {
    "hour": ["2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"],
    "day": ["2026-11-25T00:00:00Z"],
    "week": ["2026-11-25T00:00:00Z"],
    "month": ["2026-11-25T00:00:00Z"],
    "5400": ["2026-11-25T09:00:00Z", "2026-11-25T10:30:00Z"],
}


async def test_steps_are_parts_of_the_whole(clocked: Api) -> None:
    await store(clocked.context.database, [pod(start=T0 + 900, end=EndTime(TOLD, T0 + 4500))], [node()])
    await enter(clocked.context.database, "h100", price(24.6))
    for step, begins in STEPS.items():
        found = await rows(clocked, step=step)
        assert [row["from"] for row in found] == begins
        assert sum(row["dollars"] for row in found) == pytest.approx(24.6)


async def test_a_closed_month_stands_and_what_changed_later_is_said_with_its_day(clocked: Api) -> None:
    database = clocked.context.database
    october = T0 - 40 * DAY
    await store(
        database,
        [pod("p0", start=october, end=EndTime(TOLD, october + HOUR)), pod("p1")],
        [node(start=october, end=EndTime(TOLD, T0 + HOUR))],
    )
    await enter(database, "wrong", price(10, since=october - DAY), created=october - DAY)
    asked = {"from": "2026-10-01T00:00:00Z", "groupBy": "namespace", "idle": False}
    before = await rows(clocked, **asked, step="month")
    assert [(row["from"], row["dollars"]) for row in before] == [
        ("2026-10-01T00:00:00Z", 10.0),
        ("2026-11-01T00:00:00Z", 10.0),
    ]
    right = price(12, since=october - DAY, supersedes="wrong")
    await enter(database, "right", right, created=T0 - DAY)
    after = await rows(clocked, **asked, step="month")
    assert [(row["kind"], row["from"], row["dollars"], row["at"]) for row in after] == [
        ("usage", "2026-10-01T00:00:00Z", 10.0, None),
        ("usage", "2026-11-01T00:00:00Z", 12.0, None),
        ("adjustment", "2026-10-01T00:00:00Z", 2.0, "2026-11-24T10:00:00Z"),
    ]
    with_idle = await rows(clocked, **{**asked, "idle": True})
    assert {row["kind"] for row in with_idle} == {"usage", "idle", "adjustment", "idleAdjustment"}


async def test_csv_is_the_same_table(clocked: Api) -> None:
    await store(clocked.context.database, [pod(owner=owner(0, "=cmd"))], [node()])
    await enter(clocked.context.database, "h100", price(24.6))
    answer = await clocked.client.get(
        COSTS, params={**WINDOW, "groupBy": "namespace,queue"}, headers={"Accept": "text/csv"}
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    [line] = csv.DictReader(io.StringIO(answer.text))
    assert (line["kind"], line["namespace"], line["queue"]) == ("usage", "'=cmd", "")
    assert (line["dollars"], line["nodeSeconds"], line["from"]) == ("24.6000", "3600.000", WINDOW["from"])


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "unknown": ({"groupBy": "colour"}, "query.groupBy"),
    "twice": ({"groupBy": "namespace,namespace"}, "query.groupBy"),
    "no label": ({"groupBy": "label:-"}, "query.groupBy"),
    "nothing": ({"groupBy": ""}, "query.groupBy"),
    "no time": ({"from": WINDOW["to"]}, "query.from"),
    "backwards": ({"from": "2027-01-01T00:00:00Z"}, "query.from"),
    "too long": ({"from": "2000-01-01T00:00:00Z"}, "query.from"),
    "no moment": ({"from": "yesterday"}, "query.from"),
    "before any price": ({"from": "0001-01-01T00:00:00Z"}, "query.from"),
    "long ago": ({"to": "0001-01-01T00:00:00Z"}, "query.to"),
    "at the end of all years": (
        {"from": "9998-12-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"},
        "query.to",
    ),
    "no step": ({"step": "fortnight"}, "query.step"),
    "no length": ({"step": "0"}, "query.step"),
    "too many steps": ({"step": "60"}, "query.step"),
    "no boolean": ({"idle": "perhaps"}, "query.idle"),
    "no boolean either": ({"shareIdle": "perhaps"}, "query.shareIdle"),
    "another name": ({"groupby": "queue"}, "query.groupby"),
}


async def test_what_cannot_be_asked_is_said_by_its_name(clocked: Api) -> None:
    for name, (asked, field) in REFUSED.items():
        answer = await clocked.client.get(COSTS, params={**WINDOW, **asked})
        assert answer.status_code == 422, name
        assert [wrong["field"] for wrong in answer.json()["errors"]] == [field], name


async def test_one_sees_the_costs_of_what_one_may_list(clocked: Api) -> None:
    await store(
        clocked.context.database,
        [pod("p0", owner=owner(0, "mine"), devices=4), pod("p1", owner=owner(1, "theirs"), devices=4)],
        [node()],
    )
    await enter(clocked.context.database, "h100", price(10))
    headers = clocked.reviewer.add("token", Caller("alice"), within("mine"))
    answer = await clocked.client.get(COSTS, params=WINDOW, headers=headers)
    assert by_group(answer.json()["rows"]) == {("usage", "mine"): 5.0}
    for more in ({"idle": "true"}, {"shareIdle": "true"}, {"formerNamespaces": "true"}):
        refused = await clocked.client.get(COSTS, params={**WINDOW, **more}, headers=headers)
        assert refused.status_code == 403
    nobody = clocked.reviewer.add("other", Caller("bob"), within())
    assert (await clocked.client.get(COSTS, params=WINDOW, headers=nobody)).json()["rows"] == []


async def test_a_namespace_that_was_made_anew_has_no_costs_of_its_predecessor(clocked: Api) -> None:
    database = clocked.context.database
    await store(database, [pod("p0"), pod("p1", start=T0 + HOUR, end=EndTime(TOLD, T0 + 2 * HOUR))], [node()])
    await enter(database, "h100", price(10))
    assert by_group(await rows(clocked)) == {("usage", "research"): 20.0}
    await clocked.cluster.make_namespace("research", "2026-11-25T10:30:00Z")

    async def shown() -> Any:
        return by_group(await rows(clocked))

    await eventually(shown, lambda found: found == {("usage", "research"): 10.0})
    assert by_group(await rows(clocked, formerNamespaces=True)) == {("usage", "research"): 20.0}


@pytest.mark.parametrize("runs", [500, pytest.param(10_000, marks=pytest.mark.long)])
async def test_a_month_of_many_runs_blocks_nobody(database_url: str, runs: int) -> None:
    database = PatientDatabase(database_url)
    for start in range(0, runs, 500):
        numbers = range(start, min(start + 500, runs))
        await store(
            database,
            [
                pod(
                    f"p{number}-{part}",
                    owner=owner(number, f"team-{number % 20}"),
                    node=f"n{number % 300}-{part}",
                    start=T0 + 60 * number,
                    end=EndTime(TOLD, T0 + 60 * number + 7 * number % 5000 + 1),
                )
                for number in numbers
                for part in range(8)
            ],
        )
    await enter(database, "h100", price(10))
    await database.close()
    context = AppContext(
        Database(database_url),
        FakeCluster(),
        FakeReviewer(),
        ApiMetrics(),
        MirrorHealth(),
        now=lambda: datetime.fromtimestamp(T0 + 30 * DAY, UTC),
    )
    asked = {
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-12-05T00:00:00Z",
        "step": "day",
        "groupBy": "namespace,owner,label:team",
        "idle": "true",
    }
    async with served(context) as api:
        answer, longest = await api.lag(api.client.get(COSTS, params=asked))
    print(f"{runs} runs: {longest:.3f} s of CPU at most")
    assert answer.status_code == 200 and longest < LONGEST_BITE
    assert sum(row["nodeSeconds"] for row in answer.json()["rows"]) == sum(
        8 * (7 * number % 5000 + 1) for number in range(runs)
    )
