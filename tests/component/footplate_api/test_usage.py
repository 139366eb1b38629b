"""What UsageRecords tell is stored once, whatever the order; records go once it is committed."""

from __future__ import annotations

import logging
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy import event as on

from footplate_api.db.database import Database
from footplate_api.errors import ApiError, ClusterUnavailable, DatabaseUnavailable, InstallationLacksRights
from footplate_api.kubernetes.client import EventType, Resource, WatchEvent
from footplate_api.mirror.usage import UsageReflector
from footplate_api.models.usage import PodUsageRow
from footplate_ledger.usage import RUNNING, TOLD, EndTime, PodAllocation
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import mirror
from tests.component.footplate_api.usages import follower, known, node_record, put, record, store
from tests.support.ledger_reference import merge_by_uid
from tests.support.loop_lag import loop_lag
from tests.support.usage_worlds import HOUR, T0, node, pod, tellings, world

LONGEST_BITE = 0.1  # seconds of CPU


async def stored(database: Database) -> dict[str, PodAllocation]:
    """All pods, by uid."""
    async with database.read() as session:
        uids = (await session.scalars(select(PodUsageRow.uid))).all()
    return (await known(database, uids)).pods


def records(names: Any) -> list[str]:
    return sorted(names.others[Resource.USAGE])


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_any_repetition_and_any_split_are_the_same_rows(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    every = tellings(chance, world(chance).pods)
    told = list(every)
    cluster = FakeCluster(page_size=2)
    followers = [follower(UsageReflector, database, cluster) for _ in range(2)]
    while told:
        part = [told.pop() for _ in range(min(len(told), chance.randrange(1, 4)))]
        for owner in {usage.owner for usage in part}:
            own = {usage.uid: usage for usage in part if usage.owner == owner}
            made = await put(cluster, f"{owner.uid}-{chance.randrange(3)}", record(own.values()))
            replica = chance.choice(followers)
            if chance.random() < 0.3:
                await replica.list()
            else:
                await replica.apply([WatchEvent(EventType.MODIFIED, made)])
    assert await stored(database) == merge_by_uid(every)


async def test_who_is_told_late_what_another_replica_knows_better_does_not_forget_it(
    database: Database,
) -> None:
    early = pod(end=EndTime(RUNNING, T0 + 60))
    for told in (pod(), early):  # both had read the table before either wrote it
        await store(database, [told], [node(end=told.end)])
    assert await stored(database) == {"p1": pod()}
    assert (await known(database, [], ["n1"])).nodes["n1"] == node(end=pod().end)


async def test_what_nobody_tells_of_any_more_stands(database: Database) -> None:
    cluster = FakeCluster()
    watcher = follower(UsageReflector, database, cluster)
    await put(cluster, "uid-gpt-0", record([pod()]))
    await watcher.list()
    cluster.silent = True
    await cluster.remove_object(Resource.USAGE, "uid-gpt-0")
    await watcher.list()
    assert await stored(database) == {"p1": pod()}


async def test_a_record_goes_once_it_is_over_and_its_run_is_gone(database: Database) -> None:
    cluster = FakeCluster()
    watcher = follower(UsageReflector, database, cluster)
    await cluster.put("research", "gpt", metadata={"uid": "uid-gpt"})
    await mirror(database, cluster).list()
    running = replace(pod(), end=EndTime(RUNNING, T0 + 60))
    await put(cluster, "uid-gpt-0", record([running]))
    await put(cluster, "uid-gpt-1", record([pod("p2")], completed=True))
    await watcher.list()
    assert records(cluster) == ["uid-gpt-0", "uid-gpt-1"]  # the operator reckons from them
    await cluster.remove("research", "gpt")
    await mirror(database, cluster).list()
    await watcher.list()
    assert records(cluster) == ["uid-gpt-0"]  # a pod of it may still hold its node
    await put(cluster, "uid-gpt-0", record([pod()], completed=True))
    await watcher.list()
    assert records(cluster) == []
    assert await stored(database) == {"p1": pod(), "p2": pod("p2")}


@pytest.mark.parametrize(
    ("standing", "left"),
    [
        pytest.param({}, [], id="nobody-has-it"),
        pytest.param({"uid": "uid-of-another"}, [], id="a-younger-one-has-its-name"),
        pytest.param({"uid": "uid-gpt"}, ["uid-gpt-0"], id="it-is-there"),
    ],
)
async def test_of_a_run_that_was_never_seen_kubernetes_is_asked(
    database: Database, standing: dict[str, str], left: list[str]
) -> None:
    cluster = FakeCluster()
    if standing:
        await cluster.put("research", "gpt", metadata=standing)
    await put(cluster, "uid-gpt-0", record([pod()], completed=True))
    await follower(UsageReflector, database, cluster).list()
    assert records(cluster) == left


async def test_a_record_of_nodes_goes_when_it_is_over(database: Database) -> None:
    cluster = FakeCluster()
    gone = node(end=EndTime(TOLD, T0 + HOUR))
    await put(cluster, "node-n1", node_record([gone], completed=True))
    await put(cluster, "node-n2", node_record([node("n2")]))
    await follower(UsageReflector, database, cluster).list()
    assert records(cluster) == ["node-n2"]
    told = await known(database, [], ["n1", "n2"])
    assert told.nodes == {"n1": gone, "n2": node("n2")}


class Reluctant(FakeCluster):
    """Writes down what the database had when a record was deleted."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.had: list[set[str]] = []

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        self.had.append(set(await stored(self.database)))
        await super().delete_record(name, uid, resource_version)


async def test_a_record_goes_only_after_the_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Reluctant(database)
    watcher = follower(UsageReflector, database, cluster)
    await put(cluster, "uid-gpt-0", record([pod()], completed=True))
    with monkeypatch.context() as patch:
        patch.setattr(database, "write", _refuses)
        with pytest.raises(DatabaseUnavailable):
            await watcher.list()
    assert records(cluster) == ["uid-gpt-0"] and cluster.had == []
    await watcher.list()
    assert records(cluster) == [] and cluster.had == [{"p1"}]


def _refuses(*_: object) -> Any:
    raise DatabaseUnavailable("away")


class Refusing(FakeCluster):
    """Kubernetes refuses to delete records, until it is told not to."""

    trouble: ApiError | None = None

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        await super().delete_record(name, uid, resource_version)


@pytest.mark.parametrize("trouble", [InstallationLacksRights("no"), ClusterUnavailable("no answer")])
async def test_a_record_that_cannot_be_deleted_keeps_no_other_from_being_stored(
    database: Database, trouble: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Refusing(page_size=1)
    cluster.trouble = trouble
    for number in range(3):
        await put(cluster, f"uid-{number}", record([pod(f"p{number}")], completed=True))
    watcher = follower(UsageReflector, database, cluster)
    await watcher.list()
    assert set(await stored(database)) == {"p0", "p1", "p2"}
    late = await put(cluster, "uid-3", record([pod("p3")], completed=True))
    await watcher.apply([WatchEvent(EventType.ADDED, late)])
    assert "p3" in await stored(database) and len(records(cluster)) == 4
    assert f"completed UsageRecords are not deleted yet: {trouble.detail}" in caplog.text
    cluster.trouble = None
    await watcher.list()
    assert records(cluster) == []


class Changing(FakeCluster):
    """An operator writes a record just before it is deleted."""

    async def delete_record(self, name: str, uid: str, resource_version: str) -> None:
        await self.put_object(Resource.USAGE, name, record([pod(), pod("p2")], completed=True))
        await super().delete_record(name, uid, resource_version)


async def test_a_record_that_has_changed_meanwhile_stays(database: Database) -> None:
    cluster = Changing()
    await put(cluster, "uid-gpt-0", record([pod()], completed=True))
    await follower(UsageReflector, database, cluster).list()
    assert records(cluster) == ["uid-gpt-0"]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"start": "yesterday"}, id="no-time"),
        pytest.param({"devices": -1}, id="no-number"),
        pytest.param({"region": "eu\0"}, id="a-character-that-no-database-takes"),
        pytest.param({"region": "\ud800"}, id="half-a-pair"),
    ],
)
async def test_what_cannot_be_read_is_skipped_and_said_once(
    database: Database, caplog: pytest.LogCaptureFixture, wrong: dict[str, Any]
) -> None:
    cluster = FakeCluster()
    watcher = follower(UsageReflector, database, cluster)
    bad = record([pod("p2")], completed=True)
    bad["pods"]["p2"] |= wrong
    await put(cluster, "bad", bad)
    await put(cluster, "uid-gpt-0", record([pod()]))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            await watcher.list()
    assert await stored(database) == {"p1": pod()} and records(cluster) == ["bad", "uid-gpt-0"]
    assert len([line for line in caplog.messages if "UsageRecord 'bad'" in line]) == 1
    assert watcher.metrics.objects_skipped.labels("UsageRecords")._value.get() == 1


async def test_a_node_that_cannot_be_seen_is_told_of_by_its_name(database: Database) -> None:
    """Which may be longer than any uid."""
    there = pod(node="n" * 253)
    cluster = FakeCluster()
    await put(cluster, "uid-gpt-0", record([there]))
    await follower(UsageReflector, database, cluster).list()
    assert await stored(database) == {"p1": there}


async def test_what_a_newer_release_adds_is_passed_over(database: Database) -> None:
    cluster = FakeCluster()
    newer = record([pod()])
    newer["pods"]["p1"]["colour"] = "green"
    await put(cluster, "uid-gpt-0", {**newer, "more": 1})
    await follower(UsageReflector, database, cluster).list()
    assert await stored(database) == {"p1": pod()}


@pytest.mark.any_database
@pytest.mark.parametrize("count", [1_000, pytest.param(30_000, marks=pytest.mark.long)])
async def test_thousands_of_records_block_nothing_and_are_written_once(
    database: Database, count: int
) -> None:
    cluster = FakeCluster(page_size=100)
    for number in range(count):
        pods = [pod(f"p{number}-{part}", node=f"n{part}") for part in range(4)]
        cluster.others[Resource.USAGE][f"{number}"] = {
            "metadata": {"name": f"{number}", "uid": f"{number}", "resourceVersion": "1"},
            "spec": record(pods),
        }
    watcher = follower(UsageReflector, database, cluster)
    written: Counter[str] = Counter()

    def count_writes(_c: Any, _cursor: Any, statement: str, _p: Any, _context: Any, _many: bool) -> None:
        written[statement.split()[0]] += 1

    async with loop_lag() as first:
        await watcher.list()
    on.listen(Engine, "before_cursor_execute", count_writes)
    try:
        async with loop_lag() as again:
            await watcher.list()
        restarted = follower(UsageReflector, database, cluster)
        async with loop_lag() as after_restart:
            await restarted.list()
    finally:
        on.remove(Engine, "before_cursor_execute", count_writes)
    assert written["INSERT"] == written["UPDATE"] == 0
    bites = (first.longest, again.longest, after_restart.longest)
    print("longest bites, in seconds of CPU:", *(f"{seconds:.3f}" for seconds in bites))
    assert max(bites) < LONGEST_BITE
