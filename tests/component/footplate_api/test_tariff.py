"""The price book only grows; intensities and profiles are as the cluster shows them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from footplate_api.db.database import Database
from footplate_api.kubernetes.client import EventType, Resource, WatchEvent
from footplate_api.mirror.tariff import CarbonReflector, PriceReflector, ProfileReflector
from footplate_api.models.tariff import CarbonSeries, ComputeProfileRow
from footplate_api.tariff import repository, tariff_rows
from footplate_ledger.prices import PriceBookEntry
from footplate_ledger.units import HourlyRate
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.usages import follower, price
from tests.support.usage_worlds import DAY, H100, T0

SERIES = {"zone": "FRA", "points": [{"from": "2026-11-01T00:00:00Z", "gramsPerKilowattHour": 56}]}
PROFILE = {"backend": "gloo", "energy": {"carbonZone": "FRA"}}


async def book(database: Database) -> dict[str, PriceBookEntry]:
    async with database.read() as session:
        return {row.name: tariff_rows.entry_of(row) for row in await repository.book(session)}


async def test_an_entry_that_is_gone_from_the_cluster_stays_in_the_book(database: Database) -> None:
    cluster = FakeCluster()
    watcher = follower(PriceReflector, database, cluster)
    made = await cluster.put_object(Resource.PRICES, "h100-1", price(24.6))
    await watcher.list()
    entry = PriceBookEntry("h100-1", H100, HourlyRate.dollars_per_hour("24.6"), T0 - DAY, created_at=T0)
    assert await book(database) == {"h100-1": entry}
    await cluster.remove_object(Resource.PRICES, "h100-1")
    await watcher.apply([WatchEvent(EventType.DELETED, made)])
    await watcher.list()
    await follower(PriceReflector, database, cluster).list()
    assert await book(database) == {"h100-1": entry}


async def test_an_entry_that_came_and_went_unseen_but_is_told_of_is_in_the_book(database: Database) -> None:
    cluster = FakeCluster()
    made = await cluster.put_object(Resource.PRICES, "h100-1", price(24.6))
    await follower(PriceReflector, database, cluster).apply([WatchEvent(EventType.DELETED, made)])
    assert list(await book(database)) == ["h100-1"]


async def test_the_first_entry_of_a_name_stands(database: Database) -> None:
    cluster = FakeCluster()
    watcher = follower(PriceReflector, database, cluster)
    for dollars in (1, 2):
        await cluster.put_object(Resource.PRICES, "h100-1", price(dollars))
        await watcher.list()
    assert (await book(database))["h100-1"].rate == HourlyRate.dollars_per_hour(1)


CHANGES = {
    "sqlite": ("UPDATE {} SET uid = ''", "DELETE FROM {}", "INSERT OR REPLACE INTO {} SELECT * FROM {}"),
    "postgresql": ("UPDATE {} SET uid = ''", "DELETE FROM {}", "TRUNCATE {}"),
}


@pytest.mark.parametrize("which", range(3))
async def test_nobody_changes_the_book(database: Database, which: int) -> None:
    cluster = FakeCluster()
    await cluster.put_object(Resource.PRICES, "h100-1", price(24.6))
    await follower(PriceReflector, database, cluster).list()
    before = await book(database)
    change = CHANGES[database.engine.dialect.name][which].replace("{}", "price_entries")
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.write() as session:
            await session.execute(text(change))
    assert await book(database) == before


@pytest.mark.parametrize(
    ("kind", "resource", "model", "spec"),
    [
        pytest.param(CarbonReflector, Resource.CARBON, CarbonSeries, SERIES, id="carbon"),
        pytest.param(ProfileReflector, Resource.PROFILES, ComputeProfileRow, PROFILE, id="profiles"),
    ],
)
async def test_what_is_shown_comes_changes_and_goes(
    database: Database, kind: Any, resource: Resource, model: Any, spec: dict[str, Any]
) -> None:
    cluster = FakeCluster()
    watcher = follower(kind, database, cluster)

    async def shown() -> list[str]:
        async with database.read() as session:
            return list(await repository.specs(session, model))

    for name in ("a", "b", "c"):
        await cluster.put_object(resource, name, spec)
    await watcher.list()
    assert await shown() == ["a", "b", "c"]
    gone = cluster.others[resource]["a"]
    await cluster.remove_object(resource, "a")
    anew = await cluster.put_object(resource, "a", spec)
    await watcher.apply([WatchEvent(EventType.DELETED, gone), WatchEvent(EventType.ADDED, anew)])
    assert await shown() == ["a", "b", "c"]
    await cluster.remove_object(resource, "b")
    await watcher.list()
    assert await shown() == ["a", "c"]


@pytest.mark.parametrize(
    ("kind", "resource", "spec"),
    [
        pytest.param(PriceReflector, Resource.PRICES, price(1, effectiveFrom="soon"), id="prices"),
        pytest.param(
            PriceReflector,
            Resource.PRICES,
            price(1, effectiveFrom="9999-12-31T23:59:59-01:00"),
            id="in-a-year-of-five-digits",
        ),
        pytest.param(CarbonReflector, Resource.CARBON, {**SERIES, "points": []}, id="carbon"),
        pytest.param(ProfileReflector, Resource.PROFILES, {**PROFILE, "backend": "smoke"}, id="profiles"),
        pytest.param(ProfileReflector, Resource.PROFILES, {"energy": {"carbonZone": "\0"}}, id="unstorable"),
    ],
)
async def test_what_cannot_be_read_is_skipped_and_said_once(
    database: Database, caplog: pytest.LogCaptureFixture, kind: Any, resource: Resource, spec: dict[str, Any]
) -> None:
    cluster = FakeCluster()
    watcher = follower(kind, database, cluster)
    await cluster.put_object(resource, "bad", spec)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            await watcher.list()
    assert len([line for line in caplog.messages if "'bad' cannot be read" in line]) == 1
    assert watcher.metrics.objects_skipped.labels(kind.kind)._value.get() == 1
