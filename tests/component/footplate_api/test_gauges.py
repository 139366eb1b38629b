"""Which runs have gauges of all that there are, and on which replica."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, text, update
from sqlalchemy import event as events

from footplate_api.db.database import Database
from footplate_api.instruments import ApiMetrics
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.metrics import storage
from footplate_api.metrics.telemetry import STORED, ParsedBatch, TelemetryRow
from footplate_api.models.installation import RunExporter
from footplate_api.registry import repository as runs
from footplate_api.registry import run_rows
from footplate_api.settings import with_driver
from footplate_api.system import repository, service
from footplate_api.tasks.exporter_lease import LEASE, RENEW_SECONDS, ExporterLease
from footplate_contracts.reports import DroppedTelemetry
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.conftest import running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.postgres import Server

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVERYWHERE = NamespaceScope()


def row(name: str, phase: str | None, minutes: int, seen: datetime = NOW) -> dict[str, Any]:
    """A run of this phase, made so many minutes before now and ended, if it did, when it was seen."""
    manifest = {
        "metadata": {
            "uid": f"uid-of-{name}",
            "namespace": "research",
            "name": name,
            "resourceVersion": "1",
            "creationTimestamp": (NOW - timedelta(minutes=minutes)).isoformat(),
        },
        "status": {"phase": phase, "progress": {"step": minutes}}
        | ({"completionTime": seen.isoformat()} if phase in ("Succeeded", "Failed") else {}),
    }
    return run_rows.row(manifest, seen)


async def stored(database: Database, rows: Sequence[dict[str, Any]]) -> None:
    async with database.write() as session:
        await runs.store_runs(session, rows)


async def scraped(
    database: Database, replica: str = "a", served: NamespaceScope = EVERYWHERE
) -> dict[str, dict[str, float]]:
    """Family -> the run's name or its phase -> value."""
    scrapes = service.MetricsExporter(database, ApiMetrics().registry, served, replica)
    return read(await scrapes.text(NOW))


def read(exposed: bytes) -> dict[str, dict[str, float]]:
    """As `scraped` tells it."""
    return {
        family.name: {
            sample.labels.get("name", sample.labels.get("phase", "")): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(exposed.decode())
        if "footplate_" in family.name
    }


async def export(database: Database, replica: str = "a") -> bool:
    """Whether `replica` exports, having asked to."""
    async with database.write() as session:
        return not repository.is_shared(database.engine.dialect) or await repository.claim(
            session, replica, LEASE
        )


async def test_a_thousand_younger_runs_in_the_queue_take_no_gauge_from_one_that_trains(
    database: Database,
) -> None:
    waiting = [row(f"queued-{number}", "Queued", minutes=1 + number) for number in range(1_001)]
    old = [
        row("trains", "Running", minutes=9_999),
        row("begins", "Starting", minutes=9_998),
        row("new", None, minutes=0),
    ]
    over = [row("done", "Succeeded", minutes=5), row("long-done", "Failed", 5, NOW - timedelta(minutes=16))]
    await stored(database, [*waiting, *old, *over])
    assert await export(database)
    said = await scraped(database)
    shown = said["footplate_run_step"]
    assert len(shown) == service.GAUGED_RUNS
    assert {"trains", "begins", "new", "queued-0"} <= set(shown) and "queued-1000" not in shown
    assert said["footplate_runs_dropped"] == {"": 1_001 + 3 + 1 - service.GAUGED_RUNS}
    assert said["footplate_runs"] == {
        "": 1,
        "Failed": 1,
        "Queued": 1_001,
        "Running": 1,
        "Starting": 1,
        "Succeeded": 1,
    }


async def test_runs_that_ended_lately_have_gauges_where_there_is_room(database: Database) -> None:
    long_ago = NOW - timedelta(minutes=16)
    await stored(
        database,
        [
            row("waits", "Suspended", minutes=99),
            row("done", "Succeeded", minutes=50),
            row("long-done", "Succeeded", minutes=50, seen=long_ago),
            row("asleep", "Suspended", minutes=50, seen=long_ago),
        ],
    )
    assert await export(database)
    said = await scraped(database)
    assert set(said["footplate_run_step"]) == {"waits", "done", "asleep"}
    assert said["footplate_runs_dropped"] == {"": 0}


async def test_what_is_written_long_after_an_end_brings_no_gauge_back(database: Database) -> None:
    """A price that is corrected changes what a run has cost, days after it ended."""
    ended, late = (row(name, "Succeeded", minutes=50) for name in ("just", "long-ago"))
    late["ended_at"] = NOW - timedelta(minutes=16)
    ended["ended_at"] = NOW - timedelta(minutes=14)
    await stored(database, [ended, late])
    await export(database)
    assert set((await scraped(database))["footplate_run_step"]) == {"just"}


async def test_a_scrape_reads_no_run_that_it_does_not_show(database: Database) -> None:
    gone = [{**row(f"gone-{number}", "Succeeded", number), "deleted_at": NOW} for number in range(2_000)]
    over = [row(f"over-{number}", "Failed", number, NOW - timedelta(days=1)) for number in range(2_000)]
    await stored(database, [*gone, *over, row("trains", "Running", 1)])
    explain = "EXPLAIN" if repository.is_shared(database.engine.dialect) else "EXPLAIN QUERY PLAN"
    asked = (
        "SELECT name FROM runs WHERE deleted_at IS NULL AND phase IN ('Running', 'Restarting')",
        "SELECT name FROM runs WHERE deleted_at IS NULL AND phase IN ('Failed') AND seen_at > '2026-11-28'",
    )
    async with database.write() as session:
        await session.execute(text("ANALYZE runs"))
        await session.execute(text("DROP TABLE IF EXISTS sqlite_stat1"))  # which nobody makes in production
    async with database.read() as session:
        plans = [str((await session.execute(text(f"{explain} {question}"))).all()) for question in asked]
    assert [plan for plan in plans if "ix_runs_live_phase" not in plan] == []


# -- what is kept from scrape to scrape -------------------------------------------------


STATUS: dict[str, Any] = {
    "progress": {
        "percentage": 25.0,
        "estimatedRemainingSeconds": 600,
        "lastUpdatedTime": "2026-11-30T08:00:00Z",
    },
    "checkpoint": {"lastCommittedTime": "2026-11-30T07:59:00Z"},
    "wallSeconds": {"checkpointing": 1.5},
    "goodput": 0.875,
    "restarts": 3,
}


def telemetry(name: str, step: int, refused: int = 0) -> ParsedBatch:
    """A row of a run, or that one was refused."""
    rest = {"tokens": 7, "sample_digest": "d", "time": NOW.timestamp() + step, "loss": 1 / step}
    rows = [TelemetryRow((step, *(rest.get(column) for column in STORED[1:])))]
    given_up = DroppedTelemetry(refused=refused)
    return ParsedBatch("research", name, f"uid-of-{name}", 2, {(1, 1): rows}, given_up=given_up)


@pytest.fixture
def asked() -> Iterator[list[set[str]]]:
    """The runs whose status each statement reads."""
    found: list[set[str]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if "runs.status" in statement:
            [uids] = parameters
            found.append(set(json.loads(uids) if isinstance(uids, str) else uids))

    events.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        events.remove(Engine, "before_cursor_execute", note)


async def test_a_scrape_reads_of_runs_that_changed_alone(database: Database, asked: list[set[str]]) -> None:
    names = ("rests", "trains", "reports", "refuses", "goes")
    await stored(database, [row(name, "Running", minutes) for minutes, name in enumerate(names, start=1)])
    await export(database)
    scrapes = service.MetricsExporter(database, ApiMetrics().registry, EVERYWHERE, "a")
    first = read(await scrapes.text(NOW))
    assert read(await scrapes.text(NOW)) == first

    changed = row("trains", "Restarting", 2)
    changed["resource_version"], changed["step"] = 2, 70
    changed["status"] |= {"restarts": 1, "goodput": 0.5}
    gone = row("goes", "Running", 5) | {"resource_version": 2, "deleted_at": NOW}
    await stored(database, [changed, gone])
    async with database.write() as session:
        await storage.store_telemetry(session, [telemetry("reports", 80)])
        await storage.store_dropped(session, [telemetry("refuses", 4, refused=3)])
    later = read(await scrapes.text(NOW))

    every = {f"uid-of-{name}" for name in names}
    assert asked == [every, set(), {"uid-of-trains", "uid-of-reports", "uid-of-refuses"}]
    assert later["footplate_run_step"] == {"rests": 1, "trains": 70, "reports": 80, "refuses": 4}
    assert later["footplate_run_restarts"] == {"rests": 0, "trains": 1, "reports": 0, "refuses": 0}
    assert later["footplate_run_goodput_ratio"] == {"trains": 0.5}
    assert later["footplate_run_last_step_timestamp_seconds"] == {"reports": NOW.timestamp() + 80}
    anew = service.MetricsExporter(database, ApiMetrics().registry, EVERYWHERE, "a")
    assert read(await anew.text(NOW)) == later


class Fleet:
    """Some runs of which anything may change, but for what they have spent, which does not become less."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        self._database, self._chance = database, chance
        self._runs = {name: row(name, "Queued", minutes) for minutes, name in enumerate("abcdefgh", start=1)}
        self._steps = 1

    async def begin(self) -> None:
        await stored(self._database, list(self._runs.values()))

    async def change(self) -> None:
        """Of one of them: its status, its history, what is missing of that, or all of it goes."""
        name = self._chance.choice(sorted(self._runs))
        what = self._chance.randrange(8)
        if what < 4:
            await self._tell(name)
        elif what < 7:
            self._steps += self._chance.choice((1, 0))  # or the same step again, of another generation
            said = telemetry(name, self._steps, refused=self._chance.choice((0, self._steps)))
            generation = (self._chance.choice((1, 2)), self._chance.choice((1, 2)))
            async with self._database.write() as session:
                await storage.store_telemetry(session, [replace(said, rows={generation: said.rows[1, 1]})])
                await storage.store_dropped(session, [said])
        elif len(self._runs) > 2:
            await stored(self._database, [self._newer(name) | {"deleted_at": NOW}])
            del self._runs[name]

    async def _tell(self, name: str) -> None:
        run = self._newer(name)
        run["phase"] = self._chance.choice(("Running", "Queued", "Restarting", None, "Succeeded"))
        run["step"], run["loss"] = self._chance.choice((0, 7)), self._chance.choice((None, 0.0, -0.0, 2.5))
        some = self._chance.choice(({}, STATUS, STATUS | {"goodput": 0.5, "restarts": 4}))
        spent = run["resource_version"] / 8
        cost = {"dollars": spent, "joules": {"rated": spent}, "carbonKilograms": spent}
        run["status"] = some | {"cost": cost}
        if self._chance.random() < 0.1:
            run["ended_at"] = NOW - timedelta(minutes=16)
        self._runs[name] = run
        await stored(self._database, [run])

    def _newer(self, name: str) -> dict[str, Any]:
        run = self._runs[name]
        return run | {"resource_version": run["resource_version"] + 1}


async def test_after_any_changes_a_scrape_says_what_one_says_that_has_kept_nothing(
    database: Database,
) -> None:
    fleet = Fleet(database, random.Random(11))
    await fleet.begin()
    scrapes = service.MetricsExporter(database, CollectorRegistry(), EVERYWHERE, "a")
    for _ in range(50):
        await fleet.change()
        assert await export(database)  # for LEASE, which all of this may outlast
        text = await scrapes.text(NOW)
        anew = service.MetricsExporter(database, CollectorRegistry(), EVERYWHERE, "a")
        assert text == await anew.text(NOW)
        assert scrapes.kept.keys() == anew.kept.keys()  # of runs that are gone nothing


# -- several replicas ------------------------------------------------------------------


@pytest.fixture
def shared_url(postgres: Server) -> str:
    return with_driver(postgres.remembered())


@asynccontextmanager
async def replicas(url: str, count: int) -> AsyncIterator[list[Database]]:
    opened: list[Database] = [PatientDatabase(url) for _ in range(count)]
    yield opened
    for database in opened:
        await database.close()


async def test_of_two_replicas_one_exports_the_gauges_of_runs(shared_url: str) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt", status={"phase": "Running"})

    async with running(shared_url, cluster) as one, running(shared_url, cluster) as other:

        async def both() -> list[str]:
            return [(await api.client.get("/metrics")).text for api in (one, other)]

        answers = await eventually(both, lambda said: sum("footplate_run_step{" in text for text in said) > 0)
        assert [text.count("footplate_run_step{") for text in answers] in ([1, 0], [0, 1])
        assert sorted(text.count("footplate_api_exports_runs 1.0") for text in answers) == [0, 1]
        assert all("footplate_api_requests_total" in text for text in answers)


async def test_a_lease_is_one_replicas_until_it_ends_by_the_databases_clock(shared_url: str) -> None:
    async with replicas(shared_url, 2) as (one, other):
        assert await export(one, "a") and not await export(other, "b")
        assert (await scraped(one, "a"))["footplate_api_exports_runs"] == {"": 1}
        assert "footplate_runs" not in await scraped(other, "b")
        assert await export(one, "a")  # renewed
        async with one.write() as session:
            await session.execute(update(RunExporter).values(expires=text("clock_timestamp()")))
        assert (await scraped(one, "a"))["footplate_api_exports_runs"] == {"": 0}
        assert await export(other, "b") and not await export(one, "a")
        assert (await scraped(other, "b"))["footplate_api_exports_runs"] == {"": 1}


async def test_a_replica_that_died_is_replaced(shared_url: str) -> None:
    """With a lease of a second; the one in production ends, and is asked for, within 30 s."""
    assert LEASE.total_seconds() + RENEW_SECONDS < 30
    async with replicas(shared_url, 2) as (one, other):
        async with one.write() as session:  # it claims, and is never heard of again
            assert await repository.claim(session, "a", timedelta(seconds=1))
        task = asyncio.create_task(ExporterLease(other, "b", timedelta(seconds=1), 0.05).run())
        await eventually(lambda: scraped(other, "b"), lambda said: "footplate_runs" in said)
        assert (await scraped(one, "a"))["footplate_api_exports_runs"] == {"": 0}
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_replica_that_ends_leaves_the_lease_to_the_next(shared_url: str) -> None:
    async with replicas(shared_url, 2) as (one, other):
        task = asyncio.create_task(ExporterLease(one, "a").run())
        await eventually(lambda: scraped(one, "a"), lambda said: "footplate_runs" in said)
        assert not await export(other, "b")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await export(other, "b")


async def test_without_its_database_a_replica_shows_its_own_instruments(postgres: Server) -> None:
    async with replicas(with_driver(postgres.remembered()), 1) as (database,):
        assert await export(database)
        with postgres.away():
            assert (await scraped(database))["footplate_api_exports_runs"] == {"": 0}
