"""What pods used is noted once each, by Kubernetes' times, whoever was away meanwhile."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from footplate_contracts.v1alpha1.usagerecord import PODS_LIMIT
from footplate_ledger.units import Energy, Seconds
from footplate_ledger.usage import RUNNING, MeasuredEnergy
from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.runtime.kinds import NODE, POD, Kind
from footplate_operator.usage.pods import PodProfile
from footplate_operator.usage.tracker import LEAST_SECONDS
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import FakeCluster
from tests.support.pod_usage import GPU, H100, NOON, Bookkeeping, begun, node, seen


def changes(cluster: FakeCluster) -> int:
    return sum(call.endswith("UsageRecord") for call in cluster.calls)


async def test_a_pod_is_noted_when_it_is_bound_and_when_it_has_ended() -> None:
    books = await begun()
    assert books.pods()["w0"].start == NOON and books.pods()["w0"].end is None
    books.clock.advance(100)
    books.end("w0")
    usage = await books.note()
    entry = books.pods()["w0"]
    assert (entry.end, entry.seen, entry.estimated) == ("2026-01-31T12:01:40Z", None, False)
    assert (entry.profile, entry.devices, entry.millicores, entry.attempt) == ("h100", 8, 4000, 1)
    assert entry.node == books.cluster.objects[NODE, "a"]["metadata"]["uid"]
    assert usage is not None and [pod.uid for pod in usage.pods] == list(books.records()["uid-1-0"].pods)
    assert books.records()["uid-1-0"].owner is not None


async def test_nothing_is_written_without_news() -> None:
    books = await begun()
    await books.keeper.write_due()
    before = changes(books.cluster)
    for _ in range(10):
        books.clock.advance(2)
        await books.note()
        await books.keeper.write_due()
    assert changes(books.cluster) == before


@pytest.mark.parametrize(("others", "seconds"), [(0, LEAST_SECONDS), (2000, 200.0)])
async def test_that_pods_go_on_is_noted_now_and_then(others: int, seconds: float) -> None:
    books = await begun()
    for number in range(others):
        books.keeper.track_owner(replace(books.owner, uid=f"o{number}")).retry = math.inf
    before, passed = books.pods()["w0"].seen, 0
    while books.pods()["w0"].seen == before and passed < 1000:
        books.clock.advance(1)
        passed += 1
        await books.keeper.write_due()
    assert 0.75 * seconds < passed < 1.25 * seconds
    assert books.pods()["w0"].seen == books.now


async def test_a_pod_that_ended_while_nobody_looked_ended_when_kubernetes_says() -> None:
    books = await begun()
    books.clock.advance(50)
    books.end("w0")
    books.clock.advance(600)
    books.begin()
    await books.note()
    assert books.pods()["w0"].end == "2026-01-31T12:00:50Z" and not books.pods()["w0"].estimated


async def test_a_pod_that_went_while_nobody_looked_ended_by_the_last_evidence() -> None:
    books = await begun()
    for _ in range(20):
        books.clock.advance(5)
        await books.note()
        await books.keeper.write_due()
    seen = books.pods()["w0"].seen
    assert seen is not None and seen > NOON
    books.cluster.bury(POD, "w0")
    books.clock.advance(600)
    books.begin()
    await books.note()
    assert (books.pods()["w0"].end, books.pods()["w0"].estimated) == (seen, True)


async def test_a_pod_that_went_unseen_was_there_when_somebody_looked_last() -> None:
    books = await begun()
    books.clock.advance(20)
    await books.note()
    books.cluster.bury(POD, "w0")
    books.clock.advance(300)
    await books.note()
    assert (books.pods()["w0"].end, books.pods()["w0"].estimated) == ("2026-01-31T12:00:20Z", True)


async def test_another_pod_of_the_same_name_is_another() -> None:
    books = await begun()
    books.cluster.bury(POD, "w0")
    books.clock.advance(600)
    books.begin()
    books.bind("w0")
    await books.note()
    entries = list(books.records()["uid-1-0"].pods.values())
    assert sorted((pod.estimated, pod.end) for pod in entries) == [(False, None), (True, NOON)]


async def test_a_pod_that_is_seen_to_go_ended_then() -> None:
    books = await begun()
    books.clock.advance(30)
    body = books.cluster.objects[POD, "w0"]
    books.cluster.bury(POD, "w0")
    books.hear(body, gone=True)
    books.clock.advance(90)
    await books.note()
    assert (books.pods()["w0"].end, books.pods()["w0"].estimated) == ("2026-01-31T12:00:30Z", True)


async def test_the_last_word_of_a_pod_counts_though_no_reconciliation_saw_it() -> None:
    books = await begun()
    books.clock.advance(30)
    books.end("w0")
    body = books.cluster.objects[POD, "w0"]
    books.cluster.bury(POD, "w0")
    books.hear(body, gone=True)
    books.clock.advance(90)
    await books.note()
    assert (books.pods()["w0"].end, books.pods()["w0"].estimated) == ("2026-01-31T12:00:30Z", False)


async def test_a_pod_whose_labels_are_taken_goes_on() -> None:
    books = await begun()
    books.clock.advance(30)
    pod = books.cluster.objects[POD, "w0"]
    books.hear(pod, gone=True)
    await books.keeper.record_pods(books.owner, PodProfile("h100", H100), [], lambda start: 1, {})
    assert books.pods()["w0"].end is None


async def test_a_pod_on_a_lost_node_costs_until_somebody_deletes_it() -> None:
    books = await begun()
    pod = dict(books.cluster.objects[POD, "w0"])
    pod["metadata"] = {**pod["metadata"], "deletionTimestamp": books.now}
    books.cluster.put(pod)
    books.clock.advance(3600)
    usage = await books.note()
    assert usage is not None and usage.pods[0].end.known == RUNNING
    assert usage.pods[0].span(books.keeper.second()).seconds == Seconds(Fraction(3600))


# -- whoever is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RequestForbidden("no right", 403), ClusterError("away")])
async def test_what_is_refused_is_written_later(error: Exception) -> None:
    books = Bookkeeping()
    books.cluster.put(node("a", NOON))
    books.bind("w0")
    books.cluster.refuse["create", USAGE_RECORD] = error
    usage = await books.note()
    assert usage is not None and len(usage.pods) == 1 and not books.pods()
    books.cluster.refuse.clear()
    books.clock.advance(120)
    await books.keeper.write_due()
    assert books.pods()["w0"].start == NOON


class Slow(FakeCluster):
    """One whose answers never come."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        if kind == USAGE_RECORD:
            await asyncio.get_running_loop().create_future()
        return await super().get(kind, namespace, name)


async def test_an_answer_that_does_not_come_holds_nothing_up() -> None:
    books = Bookkeeping(Slow)
    books.keeper.answer_seconds = 0.01
    books.bind("w0")
    assert await books.note() is None


class Held(FakeCluster):
    """One that answers nothing about Nodes while it is not `released`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.released = asyncio.Event()
        self.released.set()

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        if kind == NODE or name.startswith("node-"):
            await self.released.wait()
        return await super().get(kind, namespace, name)


def released(books: Bookkeeping) -> asyncio.Event:
    """Whether its cluster answers about Nodes."""
    assert isinstance(books.cluster, Held)
    return books.cluster.released


async def answered(books: Bookkeeping) -> None:
    """Let it answer, and what was asked be over."""
    released(books).set()
    await asyncio.gather(*books.keeper.kept[books.owner.uid].searches)


async def test_no_decision_waits_for_what_is_known_of_nodes() -> None:
    books = Bookkeeping(Held)
    released(books).clear()
    books.keeper.answer_seconds = 600.0
    books.cluster.put(node("a", NOON))
    books.bind("w0")
    usage = await books.note()
    assert usage is not None and not usage.pods
    books.clock.advance(50)
    books.end("w0")
    books.hear(books.cluster.objects[POD, "w0"])
    await answered(books)
    await books.keeper.write_due()
    entry = books.pods()["w0"]
    assert (entry.start, entry.end, entry.estimated) == (NOON, "2026-01-31T12:00:50Z", False)
    assert entry.node == books.cluster.objects[NODE, "a"]["metadata"]["uid"]


async def test_nothing_is_known_before_the_nodes_of_what_was_recorded_were_read() -> None:
    books = await begun(Held)
    books.begin()
    released(books).clear()
    books.keeper.answer_seconds = 600.0
    assert await books.note() is None
    await answered(books)
    usage = await books.note()
    assert usage is not None and len(usage.pods) == len(usage.nodes) == 1


async def test_nothing_is_known_before_the_records_were_read() -> None:
    books = await begun()
    books.begin()
    books.cluster.down = True
    assert await books.note() is None
    books.cluster.down = False
    books.clock.advance(120)
    usage = await books.note()
    assert usage is not None and len(usage.pods) == 1


async def test_a_write_whose_answer_was_lost_is_found() -> None:
    books = Bookkeeping()
    books.cluster.put(node("a", NOON))
    books.bind("w0")
    await books.note()
    kept = books.keeper.kept[books.owner.uid]
    kept.records.mark_lost(0)
    books.clock.advance(10)
    books.end("w0")
    await books.note()
    books.clock.advance(10)
    await books.note()
    assert books.pods()["w0"].end == "2026-01-31T12:00:10Z" and books.pods()["w0"].seen is None


async def test_a_record_that_somebody_deletes_is_made_again() -> None:
    books = await begun()
    books.cluster.bury(USAGE_RECORD, "uid-1-0")
    books.clock.advance(10)
    books.end("w0")
    for _ in range(2):
        await books.note()
        books.clock.advance(60)
    assert books.pods()["w0"].end == "2026-01-31T12:00:10Z"


async def test_a_record_that_is_full_begins_the_next() -> None:
    books = Bookkeeping()
    books.cluster.put(node("a", NOON))
    for number in range(PODS_LIMIT + 1):
        books.bind(f"w{number}")
    await books.note()
    assert {name: len(record.pods) for name, record in books.records().items()} == {
        "uid-1-0": PODS_LIMIT,
        "uid-1-1": 1,
    }
    books.begin()
    books.bind("w-last")
    usage = await books.note()
    assert usage is not None and len(usage.pods) == PODS_LIMIT + 2
    assert len(books.records()["uid-1-1"].pods) == 2


# -- energy ---------------------------------------------------------------------------------------


def sums(joules: int) -> MeasuredEnergy:
    return MeasuredEnergy(Energy.joules(joules), Seconds(Fraction(joules)))


async def test_sums_of_energy_only_grow() -> None:
    books = await begun()
    [uid] = books.records()["uid-1-0"].pods
    for joules in (50, 20):
        books.measured = {uid: sums(joules)}
        usage = await books.note()
        assert usage is not None and usage.pods[0].measured == sums(50)
    books.end("w0")
    await books.note()
    energy = books.pods()["w0"].energy
    assert energy is not None and (energy.millijoules, energy.counter_seconds) == (50_000, 50)
    books.measured = {uid: sums(60)}
    await books.note()
    energy = books.pods()["w0"].energy
    assert energy is not None and energy.millijoules == 60_000


# -- nodes and neighbours -----------------------------------------------------------------------------


async def test_pods_of_others_on_the_same_node_are_known() -> None:
    books = await begun()
    usage = await books.note()
    assert usage is not None and not usage.others and [node.devices for node in usage.nodes] == [8]
    shared = replace(seen(books.cluster.objects[POD, "w0"]), uid="p9", name="other-w0")
    await books.keeper.record_pods(
        replace(books.owner, uid="o1"), PodProfile("h100", H100), [shared], lambda start: 1, {}
    )
    usage = await books.note()
    assert usage is not None and [pod.uid for pod in usage.others] == ["p9"]


async def test_where_nodes_may_not_be_seen_their_names_count() -> None:
    books = Bookkeeping()
    books.cluster.refuse["get", NODE] = RequestForbidden("no right", 403)
    books.bind("w0")
    usage = await books.note()
    assert usage is not None and not usage.nodes and books.pods()["w0"].node == "a"


class Counting(FakeCluster):
    """One that counts what it is asked."""

    asked = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Any:
        self.asked += 1
        return await super().get(kind, namespace, name)


async def test_what_is_known_is_not_asked_again() -> None:
    books = Bookkeeping(Counting)
    books.cluster.refuse["get", NODE] = RequestForbidden("no right", 403)
    books.bind("w0")
    asked = []
    for _ in range(3):
        await books.note()
        books.clock.advance(2)
        assert isinstance(books.cluster, Counting)
        asked.append(books.cluster.asked)
    assert asked[1] == asked[2]


@pytest.mark.parametrize("requests", [{GPU: "4"}, {GPU: "2", "cpu": "500m"}])
async def test_devices_and_cpu_are_what_the_pod_asks_for(requests: dict[str, str]) -> None:
    books = Bookkeeping()
    books.bind("w0", **requests)
    usage = await books.note()
    assert usage is not None
    assert (usage.pods[0].devices, usage.pods[0].cpu) == (
        int(requests[GPU]),
        Fraction(1, 2) if "cpu" in requests else 0,
    )
