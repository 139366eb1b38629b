"""Costs of the month and pods of runs, as the replica that exports finds them for those who scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from footplate_api.costs.rows import CostLine
from footplate_api.costs.service import CostService, ResolvedCostQuery
from footplate_api.db.database import Database
from footplate_api.errors import Invalid
from footplate_api.instruments import ApiMetrics
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.system import repository
from footplate_api.system.service import MetricsExporter
from footplate_api.tariff.service import TariffReader
from footplate_api.tasks.exporter_lease import LEASE
from footplate_api.tasks.monthly_costs import MonthlyCostTask
from footplate_contracts.names import Role
from footplate_ledger.usage import RUNNING, TOLD, EndTime, Owner
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.usages import enter, price, store
from tests.support.usage_worlds import DAY, HOUR, T0, node, pod

RUNS = Owner("TrainingRun", "serving", "tiny", "uid-tiny")
WEEK = 7 * DAY  # later it is another month than at T0


class World:
    """One replica with a clock that a test sets."""

    def __init__(self, database: Database, replica: str = "a") -> None:
        self.database, self.replica = database, replica
        self.now = T0 + 2 * HOUR
        self.scrapes = MetricsExporter(database, ApiMetrics().registry, NamespaceScope(), replica)
        costs = CostService(database, TariffReader(database))
        self.finder = MonthlyCostTask(
            database, costs, self.scrapes, replica, self._moment, lambda: float(self.now)
        )

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def look(self) -> dict[str, dict[tuple[str, ...], float]]:
        """What is scraped after a look: name -> values of labels in the order of their names -> value."""
        await self.finder.refresh()
        text = (await self.scrapes.text(self._moment())).decode()
        return {
            family.name: {
                tuple(value for _, value in sorted(sample.labels.items())): sample.value
                for sample in family.samples
            }
            for family in text_string_to_metric_families(text)
        }


RESEARCH = ("research", "h100")


async def export(database: Database, replica: str = "a") -> None:
    if repository.is_shared(database.engine.dialect):
        async with database.write() as session:
            await repository.claim(session, replica, LEASE)


async def test_costs_of_the_month_and_pods_that_are_there(database: Database) -> None:
    """A node of 80 dollars an hour: one run had all of it for an hour, another half of it for the next."""
    await enter(database, "h100", price(80.0))
    small = pod(
        "p2",
        owner=RUNS,
        node="n1",
        start=T0 + HOUR,
        end=EndTime(RUNNING, T0 + HOUR),
        devices=4,
        role=Role.SPARE,
    )
    await store(database, [pod(), small], [node()])
    await export(database)
    world = World(database)
    found = await world.look()
    assert found["footplate_month_to_date_cost_dollars"] == {RESEARCH: 80.0, ("serving", "h100"): 40.0}
    assert found["footplate_cost_dollars"] == {RESEARCH: 0.0, ("serving", "h100"): 0.0}
    assert found["footplate_month_to_date_idle_dollars"] == {("h100",): 40.0}
    assert found["footplate_month_to_date_energy_joules"][RESEARCH] == 7.92 * 3_600_000
    assert set(found["footplate_month_to_date_carbon_grams"]) == {("research", "h100"), ("serving", "h100")}
    assert found["footplate_costs_counted_timestamp_seconds"] == {(): T0 + 2 * HOUR}
    assert found["footplate_run_membership_info"] == {("tiny", "serving", "name-of-p2", "spare"): 1.0}

    world.now += 60
    await store(database, [replace(small, end=EndTime(TOLD, T0 + 2 * HOUR))])
    await enter(database, "corrected", price(8.0, supersedes="h100"), created=T0 + HOUR)
    corrected = await world.look()
    assert corrected["footplate_run_membership_info"] == {}
    assert corrected["footplate_cost_dollars"] == found["footplate_cost_dollars"], "no counter falls"
    assert corrected["footplate_month_to_date_cost_dollars"][RESEARCH] == 8.0, "a gauge is exact"
    assert corrected["footplate_costs_counted_timestamp_seconds"] == {(): T0 + 2 * HOUR + 60}

    world.now = T0 + 2 * HOUR + WEEK
    await store(database, [pod("p3", start=T0 + WEEK + HOUR, end=EndTime(RUNNING, T0 + WEEK + HOUR))])
    december = await world.look()
    assert december["footplate_month_to_date_cost_dollars"] == {RESEARCH: 8.0}, "of the new month alone"
    assert december["footplate_cost_dollars"] == {RESEARCH: 8.0, ("serving", "h100"): 0.0}


async def test_counting_begins_when_its_turn_has_come(database: Database) -> None:
    await export(database)
    world = World(database)
    turns = world.finder.costs.turns
    async with turns.acquire("ann"), turns.acquire("ben"):
        looking = asyncio.create_task(world.finder.refresh())
        await eventually(lambda: asyncio.sleep(0, turns.waiting), bool)
        world.now += 10
    await looking
    counted = world.scrapes.spending.counters
    world.now += 1
    await world.finder.refresh()
    assert world.scrapes.spending.counters != counted, "nobody has to rest after having waited"


@pytest.mark.parametrize("refused", [False, True], ids=["counted", "of-too-many-groups"])
async def test_a_month_that_takes_long_is_counted_seldom(database: Database, refused: bool) -> None:
    """Twenty times as long as it took there is none, whatever came of it; pods are looked for meanwhile."""
    await export(database)
    world, asked = World(database), 0

    async def rows(
        question: ResolvedCostQuery, among: Collection[str] | None, caller: str, begun: Callable[[], None]
    ) -> list[CostLine]:
        nonlocal asked
        asked += 1
        world.now += 15  # for its turn, which takes nothing of a thread
        begun()
        world.now += 3
        if refused:
            raise Invalid.field("query.groupBy", 1, "must make fewer rows")
        return []

    costs: Any = SimpleNamespace(list_rows=rows)
    world.finder.costs = costs
    with pytest.raises(Invalid) if refused else nullcontext():
        await world.look()
    await store(database, [pod(end=EndTime(RUNNING, T0))])
    world.now += 59
    assert len((await world.look())["footplate_run_membership_info"]) == 1
    assert asked == 1
    world.now += 1
    with pytest.raises(Invalid) if refused else nullcontext():
        await world.look()
    assert asked == 2


async def test_only_the_replica_that_exports_says_anything_of_it(database: Database) -> None:
    if not repository.is_shared(database.engine.dialect):
        return
    await store(database, [pod(end=EndTime(RUNNING, T0))], [node()])
    first, second = World(database, "a"), World(database, "b")
    await export(database, "a")
    shown, silent = await first.look(), await second.look()
    assert "footplate_run_membership_info" in shown and "footplate_costs_counted_timestamp_seconds" in shown
    assert not {name for name in silent if "pod" in name or "costs" in name}
    async with database.write() as session:
        await repository.release(session, "a")
    await export(database, "b")
    assert "footplate_costs_counted_timestamp_seconds" in await second.look()
    assert "footplate_costs_counted_timestamp_seconds" not in await first.look()
