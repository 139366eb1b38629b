"""Costs of the month and pods of runs, as the replica that exports finds them for those who scrape."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from footplate_api.costs.rows import CostLine
from footplate_api.costs.service import Costs, Question
from footplate_api.database import Database
from footplate_api.errors import Invalid
from footplate_api.observation import Metrics
from footplate_api.pipelines.exporting import LEASE
from footplate_api.pipelines.spending import SpendingFinder
from footplate_api.served import Served
from footplate_api.system import repository
from footplate_api.system.service import Scrapes
from footplate_api.tariff.service import Tariffs
from footplate_contracts.names import Role
from footplate_ledger.usage import RUNNING, TOLD, Evidence, Owner
from tests.component.footplate_api.usages import enter, price, store
from tests.support.usage_worlds import DAY, HOUR, T0, node, pod

RUNS = Owner("TrainingRun", "serving", "tiny", "uid-tiny")
WEEK = 7 * DAY  # later it is another month than at T0


class World:
    """One replica with a clock that a test sets."""

    def __init__(self, database: Database, replica: str = "a") -> None:
        self.database, self.replica = database, replica
        self.now = T0 + 2 * HOUR
        self.scrapes = Scrapes(database, Metrics().registry, Served(), replica)
        costs = Costs(database, Tariffs(database))
        self.finder = SpendingFinder(
            database, costs, self.scrapes, replica, self._moment, lambda: float(self.now)
        )

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    async def look(self) -> dict[str, dict[tuple[str, ...], float]]:
        """What is scraped after a look: name -> values of labels in the order of their names -> value."""
        await self.finder.look()
        text = (await self.scrapes.text(self._moment())).decode()
        return {
            family.name: {
                tuple(value for _, value in sorted(sample.labels.items())): sample.value
                for sample in family.samples
            }
            for family in text_string_to_metric_families(text)
        }


async def export(database: Database, replica: str = "a") -> None:
    if repository.shared(database.engine.dialect):
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
        end=Evidence(RUNNING, T0 + HOUR),
        devices=4,
        role=Role.SPARE,
    )
    await store(database, [pod(), small], [node()])
    await export(database)
    world = World(database)
    found = await world.look()
    assert found["footplate_cost_dollars"] == {("research", "h100"): 80.0, ("serving", "h100"): 40.0}
    assert found["footplate_idle_dollars"] == {("h100",): 40.0}
    assert found["footplate_energy_joules"]["research", "h100"] == 7.92 * 3_600_000
    assert set(found["footplate_carbon_grams"]) == {("research", "h100"), ("serving", "h100")}
    assert found["footplate_costs_counted_timestamp_seconds"] == {(): T0 + 2 * HOUR}
    assert found["footplate_run_membership_info"] == {("tiny", "serving", "name-of-p2", "spare"): 1.0}

    world.now += 30  # too early to count again, and pods are looked for all the same
    await store(database, [replace(small, end=Evidence(TOLD, T0 + 2 * HOUR))])
    early = await world.look()
    assert early["footplate_costs_counted_timestamp_seconds"] == {(): T0 + 2 * HOUR}
    assert early["footplate_run_membership_info"] == {}

    world.now += 30
    await enter(database, "corrected", price(8.0, supersedes="h100"), created=T0 + HOUR)
    corrected = await world.look()
    assert corrected["footplate_cost_dollars"] == found["footplate_cost_dollars"], "no counter falls"
    assert corrected["footplate_costs_counted_timestamp_seconds"] == {(): T0 + 2 * HOUR + 60}

    world.now = T0 + 2 * HOUR + WEEK
    await store(database, [pod("p3", start=T0 + WEEK + HOUR, end=Evidence(RUNNING, T0 + WEEK + HOUR))])
    december = await world.look()
    assert december["footplate_cost_dollars"] == {("research", "h100"): 8.0}, "of the new month alone"


async def test_a_month_of_too_many_groups_is_not_counted_again_with_each_look(database: Database) -> None:
    """Each time it would be found out after seconds of counting."""
    await export(database)
    world, asked = World(database), 0

    async def rows(question: Question, among: Collection[str] | None) -> list[CostLine]:
        nonlocal asked
        asked += 1
        raise Invalid.field("query.groupBy", 1, "must make fewer rows")

    costs: Any = SimpleNamespace(rows=rows)
    world.finder.costs = costs
    with pytest.raises(Invalid):
        await world.look()
    world.now += 15
    await world.look()
    assert asked == 1
    world.now += 45
    with pytest.raises(Invalid):
        await world.look()


async def test_only_the_replica_that_exports_says_anything_of_it(database: Database) -> None:
    if not repository.shared(database.engine.dialect):
        return
    await store(database, [pod(end=Evidence(RUNNING, T0))], [node()])
    first, second = World(database, "a"), World(database, "b")
    await export(database, "a")
    shown, silent = await first.look(), await second.look()
    assert "footplate_run_membership_info" in shown and "footplate_costs_counted_timestamp_seconds" in shown
    assert not {name for name in silent if "pod" in name or "costs" in name}
    async with database.write() as session:
        await repository.give_up(session, "a")
    await export(database, "b")
    assert "footplate_costs_counted_timestamp_seconds" in await second.look()
    assert "footplate_costs_counted_timestamp_seconds" not in await first.look()
