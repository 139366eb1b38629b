"""Two replicas on one database: clocks that differ, watches that lag, a cluster that is set back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from footplate_api.db.database import Database
from footplate_api.errors import ListExpired
from footplate_api.kubernetes.client import EventType, ListPage, WatchEvent
from footplate_api.mirror.runs import RunMirror
from footplate_api.runs import service
from tests.component.footplate_api.builders import eventually
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

GPT = {"metadata": {"name": "gpt", "namespace": "research"}, "spec": {}}


class Meanwhile(FakeCluster):
    """Something else happens while a list's first page is on its way."""

    def __init__(self, page_size: int = 500) -> None:
        super().__init__(page_size)
        self.meanwhile: list[Any] = []

    async def list_runs(self, token: str | None) -> ListPage:
        page = await super().list_runs(token)
        while self.meanwhile:
            await self.meanwhile.pop(0)()
        return page


async def is_live(database: Database, name: str = "gpt") -> bool:
    run = await found(database, name)
    assert run is not None
    return run.deleted_at is None


async def told(cluster: FakeCluster, kind: EventType = EventType.MODIFIED, name: str = "gpt") -> WatchEvent:
    """The event of the run as it stands now."""
    return WatchEvent(kind, cluster.objects["research", name])


@pytest.mark.parametrize("behind", [-10, 10], ids=["behind", "ahead"])
async def test_clocks_that_differ_delete_nothing(database: Database, behind: int) -> None:
    cluster = Meanwhile()
    ours = mirror(database, cluster, Clock(NOW))
    theirs = mirror(database, cluster, Clock(NOW - timedelta(seconds=behind)))

    async def create() -> None:
        await cluster.put("research", "gpt", status=running(1))
        await theirs.apply([await told(cluster, EventType.ADDED)])

    cluster.meanwhile.append(create)
    await ours.list()
    assert await is_live(database)


@pytest.mark.parametrize("behind", [-10, 10], ids=["behind", "ahead"])
async def test_a_run_that_is_created_between_two_pages_stays(database: Database, behind: int) -> None:
    cluster = Meanwhile(page_size=1)
    for name in ("a", "b"):
        await cluster.put("research", name)

    async def submit() -> None:
        await service.submit(cluster, database, GPT, Clock(NOW - timedelta(seconds=behind)))

    cluster.meanwhile.append(submit)
    await mirror(database, cluster, Clock(NOW)).list()
    assert await is_live(database)


async def test_a_run_that_is_newer_than_a_list_is_not_asked_for(database: Database) -> None:
    cluster = Meanwhile()
    watcher = mirror(database, cluster)
    await cluster.put("research", "gpt", status=running(1))
    await watcher.list()

    async def change() -> None:
        await cluster.put("research", "gpt", status=running(2))
        await watcher.apply([await told(cluster)])

    asked = cluster.gets
    cluster.meanwhile.append(change)
    await watcher.list()
    assert (cluster.gets, await step_of(database, "gpt")) == (asked, 2)


async def test_a_list_that_is_late_changes_nothing_newer(database: Database) -> None:
    cluster = Meanwhile()
    await cluster.put("research", "gpt", status=running(1))
    theirs = mirror(database, cluster)

    async def go_on() -> None:
        await cluster.put("research", "gpt", status=running(2))
        await theirs.apply([await told(cluster)])

    cluster.meanwhile.append(go_on)
    await mirror(database, cluster).list()
    assert await step_of(database, "gpt") == 2


async def test_a_list_from_before_a_deletion_does_not_bring_the_run_back(database: Database) -> None:
    cluster = Meanwhile()
    await cluster.put("research", "gpt", status=running(1))
    await mirror(database, cluster).list()

    async def delete_and_list() -> None:
        cluster.silent = True
        await cluster.remove("research", "gpt")
        await mirror(database, cluster).list()

    cluster.meanwhile.append(delete_and_list)
    await mirror(database, cluster).list()
    assert not await is_live(database)


async def test_a_lagging_watch_does_not_bring_a_run_back_that_a_list_lacked(database: Database) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt", status=running(1), metadata={"uid": "uid-1"})
    ours, theirs = mirror(database, cluster), mirror(database, cluster)
    await ours.list()
    await theirs.list()
    await cluster.put("research", "gpt", status=running(2))
    late = await told(cluster)
    await cluster.remove("research", "gpt")
    await ours.list()
    await theirs.apply([late])
    assert not await is_live(database)


# -- a cluster that was set back ------------------------------------------------------


async def restored(database: Database, cluster: FakeCluster) -> None:
    """`gpt` and `bert` are seen at step 9, then the cluster is what it was when `gpt` was at step 2."""
    await cluster.put("research", "gpt", status=running(2))
    backup = cluster.backup()
    await cluster.put("research", "bert", status=running(9))
    for step in range(3, 10):
        await cluster.put("research", "gpt", status=running(step))
    await mirror(database, cluster).list()
    cluster.restore(backup)


async def test_a_restored_cluster_is_followed(database: Database) -> None:
    cluster = FakeCluster()
    await restored(database, cluster)
    async with following(mirror(database, cluster)), following(mirror(database, cluster)):
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 2)
        await eventually(lambda: is_live(database, "bert"), lambda live: not live)
        await cluster.put("research", "gpt", status=running(3))
        await eventually(lambda: step_of(database, "gpt"), lambda step: step == 3)
    assert await is_live(database)


async def test_a_run_that_was_deleted_after_the_backup_comes_back(database: Database) -> None:
    cluster = FakeCluster()
    await cluster.put("research", "gpt", status=running(2))
    backup = cluster.backup()
    watcher = mirror(database, cluster)
    await watcher.list()
    await cluster.remove("research", "gpt")
    await watcher.list()
    cluster.restore(backup)
    await watcher.list()
    assert await is_live(database)


async def test_a_cluster_that_has_passed_its_old_versions_is_followed_too(database: Database) -> None:
    cluster = FakeCluster()
    await restored(database, cluster)
    for _ in range(20):
        await cluster.put("research", "other")
    await mirror(database, cluster).list()
    assert await step_of(database, "gpt") == 2
    assert not await is_live(database, "bert")


async def test_what_was_heard_before_the_cluster_was_set_back_is_written_no_more(database: Database) -> None:
    cluster = FakeCluster()
    lagging = mirror(database, cluster)
    await lagging.list()
    await restored(database, cluster)
    await mirror(database, cluster).list()
    with pytest.raises(ListExpired, match="reset to an older state"):
        await lagging.apply([event(EventType.MODIFIED, 500)])
    await lagging.list()
    assert await step_of(database, "gpt") == 2


async def test_no_list_goes_on_beside_a_watch_of_the_time_that_is_no_more(database: Database) -> None:
    class Watching(RunMirror):
        @property
        def is_watching(self) -> bool:
            return self.timeline is not None

    cluster = FakeCluster()
    watching = mirror(database, cluster, of=Watching)
    await watching.list()
    await restored(database, cluster)
    for _ in range(2):
        with pytest.raises(ListExpired, match="to an older state after the watch began"):
            await watching.list()
        await mirror(database, cluster).list()  # begins a new timeline


async def test_two_mirrors_that_find_it_at_once_begin_one_timeline(database: Database) -> None:
    cluster = Meanwhile()
    await restored(database, cluster)
    ours, theirs = mirror(database, cluster), mirror(database, cluster)

    async def go_on() -> None:
        await theirs.list()
        await cluster.put("research", "gpt", status=running(3))
        await theirs.apply([await told(cluster)])

    cluster.meanwhile.append(go_on)
    with pytest.raises(ListExpired, match="another replica"):
        await ours.list()
    await ours.list()
    assert (await step_of(database, "gpt"), ours.timeline, theirs.timeline) == (3, 1, 1)


async def test_ordinary_lateness_is_no_set_back(database: Database) -> None:
    """The other replica hears of newer versions while a list is on its way."""
    cluster = Meanwhile()
    theirs, ours = mirror(database, cluster), mirror(database, cluster)
    await cluster.put("research", "gpt", status=running(1))
    await theirs.list()

    async def go_on() -> None:
        for step in range(2, 9):
            await cluster.put("research", "gpt", status=running(step))
        await theirs.apply([await told(cluster)])

    cluster.meanwhile.append(go_on)
    await ours.list()
    assert (ours.timeline, await step_of(database, "gpt")) == (0, 8)


async def test_two_mirrors_that_follow_one_cluster_agree(database: Database) -> None:
    cluster = FakeCluster()
    ours = mirror(database, cluster, Clock(NOW))
    theirs = mirror(database, cluster, Clock(NOW + timedelta(seconds=10)))
    async with following(ours), following(theirs):
        for step in range(30):
            name = f"run-{step % 5}"
            await cluster.put("research", name, status=running(step))
            if step % 7 == 6:
                await cluster.remove("research", name)
            if step % 10 == 9:
                cluster.forget()
            await asyncio.sleep(0)
        alive = {name for _, name in cluster.objects}

        async def shown() -> set[str]:
            runs = [await found(database, f"run-{number}") for number in range(5)]
            return {run.name for run in runs if run is not None and run.deleted_at is None}

        await eventually(shown, lambda names: names == alive)
        for name in sorted(alive):
            step = cluster.objects["research", name]["status"]["progress"]["step"]
            await eventually(lambda name=name: step_of(database, name), lambda seen, step=step: seen == step)
