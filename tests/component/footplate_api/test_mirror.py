"""The mirror against a cluster that loses events, forgets versions and goes away."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from footplate_api.db.database import Database
from footplate_api.kubernetes.client import EventType, ListPage, Manifest, WatchEvent
from footplate_api.registry import end_time, repository
from footplate_api.runs import service
from footplate_api.settings import with_driver
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.conftest import running as serving
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import (
    NOW,
    Clock,
    event,
    following,
    found,
    mirror,
    running,
    step_of,
)
from tests.component.footplate_api.postgres import Server

GPT = {"metadata": {"name": "gpt", "namespace": "research"}, "spec": {}}


async def test_a_list_takes_over_everything_in_pages(database: Database) -> None:
    cluster = FakeCluster(page_size=3)
    for number in range(8):
        await cluster.put("research", f"run-{number}", {"stage": "pretrain"}, running(number))
    await mirror(database, cluster).list()
    run = await found(database, "run-7")
    assert run is not None
    assert (run.phase, run.stage, run.step, run.total_steps, run.tokens, run.loss) == (
        "Running",
        "pretrain",
        7,
        100,
        56,
        2.5,
    )
    assert run.created_at.tzinfo is not None


async def test_changes_follow_within_a_moment(database: Database) -> None:
    cluster = FakeCluster()
    async with following(mirror(database, cluster)):
        await cluster.put("research", "gpt", status=running(1))
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 1)
        await cluster.put("research", "gpt", status=running(2))
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 2)
        await cluster.remove("research", "gpt")
        gone = await eventually(lambda: found(database, "gpt"), lambda run: bool(run and run.deleted_at))
    assert gone is not None
    assert gone.step == 2


async def test_a_run_that_went_while_nobody_watched_is_noted_as_deleted(database: Database) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt")
    await cluster.put("research", "bert")
    watcher = mirror(database, cluster)
    await watcher.list()
    cluster.silent = True
    await cluster.remove("research", "gpt")
    await watcher.list()
    gone, stays = await found(database, "gpt"), await found(database, "bert")
    assert gone is not None and gone.deleted_at is not None
    assert stays is not None and stays.deleted_at is None


async def test_a_forgotten_version_is_listed_again(database: Database) -> None:
    cluster = FakeCluster()
    async with following(mirror(database, cluster)):
        await cluster.put("research", "gpt", status=running(1))
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 1)
        cluster.silent = True
        await cluster.put("research", "gpt", status=running(2))
        cluster.silent = False
        cluster.forget()
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 2)
    assert cluster.lists >= 2


async def test_lost_events_are_made_up_for_by_the_periodic_list(database: Database) -> None:
    cluster, clock = FakeCluster(), Clock()
    async with following(mirror(database, cluster, clock)):
        await cluster.put("research", "gpt", status=running(1))
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 1)
        cluster.silent = True
        await cluster.put("research", "gpt", status=running(2))

        async def step_a_minute_later() -> object:
            clock.time += timedelta(minutes=1)  # again and again: the first watch may not have begun yet
            return await step_of(database, "gpt")

        await eventually(step_a_minute_later, lambda step: step == 2)


async def test_an_api_server_that_was_away_is_followed_again(database: Database) -> None:
    cluster = FakeCluster()
    watcher = mirror(database, cluster)
    async with following(watcher):
        await cluster.put("research", "gpt", status=running(1))
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 1)
        cluster.available = False
        await asyncio.sleep(0.2)
        await cluster.put("research", "gpt", status=running(5))
        cluster.available = True
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 5)


@pytest.mark.parametrize(
    ("versions", "step"),
    [
        pytest.param((5, 6), 6, id="newer-replaces"),
        pytest.param((6, 5), 6, id="older-does-not"),
        pytest.param((10, 9), 10, id="versions-are-numbers-not-text"),
        pytest.param((9, 10), 10, id="one-digit-more-is-newer"),
    ],
)
async def test_a_late_event_never_replaces_a_newer_row(
    database: Database, versions: tuple[int, int], step: int
) -> None:
    watcher = mirror(database, FakeCluster())
    for version in versions:
        await watcher.apply([event(EventType.MODIFIED, version)])
    assert await step_of(database, "gpt") == step


async def test_a_late_event_does_not_bring_a_deleted_run_back(database: Database) -> None:
    watcher = mirror(database, FakeCluster())
    await watcher.apply([event(EventType.DELETED, 7)])
    await watcher.apply([event(EventType.MODIFIED, 6)])
    run = await found(database, "gpt")
    assert run is not None and run.deleted_at is not None


async def test_a_run_taken_for_deleted_by_mistake_comes_back(database: Database) -> None:
    cluster = FakeCluster()
    stored = await cluster.put("research", "gpt")
    watcher = mirror(database, cluster)
    await watcher.list()
    async with database.write() as session:
        end, version = end_time.RunEnd(NOW, True), int(stored["metadata"]["resourceVersion"])
        await repository.mark_gone(session, stored["metadata"]["uid"], end, NOW, version)
    await watcher.list()
    run = await found(database, "gpt")
    assert run is not None and run.deleted_at is None


async def test_a_run_created_during_a_list_is_not_taken_for_deleted(database: Database) -> None:
    cluster, clock = FakeCluster(), Clock()
    watcher = mirror(database, cluster, clock)

    class Meanwhile(FakeCluster):
        async def list_runs(self, token: str | None) -> Any:
            page = await super().list_runs(token)
            await watcher.apply([event(EventType.ADDED, int(page.resource_version) + 1)])
            return page

    await mirror(database, Meanwhile(), clock).list()
    run = await found(database, "gpt")
    assert run is not None and run.deleted_at is None


async def test_a_run_submitted_before_a_list_and_created_during_it_is_not_taken_for_deleted(
    database: Database,
) -> None:
    class Slow(FakeCluster):
        listed = asyncio.Event()

        async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
            await self.listed.wait()
            return await super().create_run(namespace, manifest)

        async def list_runs(self, token: str | None) -> ListPage:
            page = await super().list_runs(token)
            self.listed.set()
            await submitting
            return page

    cluster, clock = Slow(), Clock()
    submitting = asyncio.create_task(service.submit(cluster, database, GPT, clock))
    await asyncio.sleep(0)  # it has begun
    await mirror(database, cluster, clock).list()
    run = await found(database, "gpt")
    assert run is not None and run.deleted_at is None


@pytest.mark.parametrize("more", [0, 60], ids=["few-changed", "most-changed"])
async def test_runs_that_change_while_nobody_watches_are_shown_by_the_next_list(
    database: Database, more: int
) -> None:
    """Whether they are asked for one by one or listed whole, and whatever becomes of them meanwhile."""

    class Busy(FakeCluster):
        async def get_run(self, namespace: str, name: str) -> Manifest:
            if name == "gone":
                await self.remove("research", name)
            elif name == "anew":
                await self.remove("research", name)
                await self.put("research", name, status=running(8))
            return await super().get_run(namespace, name)

    cluster = Busy(page_size=100)
    names = ("gpt", "gone", "anew", *(f"run-{number}" for number in range(100)))
    for name in names:
        await cluster.put("research", name, status=running(1))
    watcher = mirror(database, cluster)
    await watcher.list()
    asked = cluster.gets
    for name in names[: 3 + more]:
        await cluster.put("research", name, status=running(2))
    version = int(await watcher.list())
    assert (asked, cluster.gets) == (0, 0 if more else 3)
    assert await step_of(database, "gpt") == 2
    await watcher.apply(cluster.events_after(version))
    gone = await found(database, "gone")
    assert gone is not None and (gone.deleted_at is None) == bool(more)
    assert await step_of(database, "anew") == (2 if more else 8)


async def test_a_run_that_came_and_went_while_a_list_was_on_its_way_is_deleted(database: Database) -> None:
    class Busy(FakeCluster):
        async def list_runs(self, token: str | None) -> ListPage:
            await service.submit(self, database, GPT, clock)
            await self.remove("research", "gpt")
            return await super().list_runs(token)

    cluster, clock = Busy(), Clock()
    await mirror(database, cluster, clock).list()
    run = await found(database, "gpt")
    assert run is not None and run.deleted_at is not None


async def test_runs_of_a_cluster_that_counts_from_less_are_deleted(database: Database) -> None:
    before, clock = FakeCluster(), Clock()
    for _ in range(9):
        await before.put("research", "gpt")
    await mirror(database, before, clock).list()
    await mirror(database, FakeCluster(), clock).list()
    run = await found(database, "gpt")
    assert run is not None and run.deleted_at is not None


async def test_an_object_that_cannot_be_read_does_not_stop_the_others(database: Database) -> None:
    broken = WatchEvent(EventType.ADDED, {"metadata": {"resourceVersion": "8"}})
    await mirror(database, FakeCluster()).apply([broken, event(EventType.ADDED, 9)])
    assert await step_of(database, "gpt") == 9


async def test_the_mirror_tells_how_it_is(api: Api) -> None:
    await eventually(lambda: readiness(api), lambda answer: answer["kubernetes"] == "ok")
    api.cluster.available = False
    degraded = await eventually(lambda: readiness(api), lambda answer: answer["kubernetes"] == "degraded")
    assert degraded["status"] == "ok"
    assert "does not answer" in degraded["detail"]
    text = (await api.client.get("/metrics")).text
    assert "footplate_api_mirror_failures_total" in text
    assert (await api.client.get(RUNS)).status_code == 200


async def test_trouble_with_the_database_is_none_of_kubernetes(postgres: Server) -> None:
    async with serving(with_driver(postgres.remembered()), FakeCluster()) as api:
        await eventually(lambda: readiness(api), lambda answer: answer["kubernetes"] == "ok")
        registry = api.context.metrics.registry

        async def failures() -> float | None:
            await api.cluster.put("research", "gpt")
            return registry.get_sample_value("footplate_api_mirror_failures_total")

        with postgres.away():
            await eventually(failures, bool)
            assert api.context.mirror.failure is None
        await eventually(lambda: step_of(api.context.database, "gpt"), lambda step: step is not None)


async def readiness(api: Api) -> Any:
    return (await api.client.get("/readyz")).json()
