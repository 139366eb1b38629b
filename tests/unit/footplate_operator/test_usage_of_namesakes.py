"""Nodes that are made anew with the same name, and those whose end no watch has told of."""

from __future__ import annotations

import pytest

from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_ledger.account import Tariff
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Money
from footplate_ledger.usage import Sku
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.kinds import NODE, Json
from footplate_operator.trainingrun.status.cost import account
from footplate_operator.usage.node_tracker import QUIET_SECONDS
from tests.support.fake_cluster import copied
from tests.support.ledger_reference import IDLE, build_accounts
from tests.support.pod_usage import H100, NOON, Bookkeeping, node

HOUR = 3600
TARIFF = Tariff(PriceBook([PriceBookEntry("e", Sku("h100"), HourlyRate.dollars_per_hour(98), 0)]))


async def with_node() -> Bookkeeping:
    books = Bookkeeping()
    body = node("a", NOON)
    body["metadata"]["uid"] = "z"  # of two tellings of a pod that differ in nothing else it would count
    books.keeper.nodes.put(books.cluster.put(body))
    await books.keeper.write_due()
    return books


def anew(books: Bookkeeping) -> tuple[Json, Json]:
    """The Node goes, and an hour later one of its name is there; neither is told. The two."""
    old = copied(books.cluster.objects[NODE, "a"])
    books.cluster.bury(NODE, "a")
    books.clock.advance(HOUR)
    return old, books.cluster.put(node("a", books.now))


def entries(books: Bookkeeping) -> dict[str, tuple[str | None, bool]]:
    """End of each Node, and whether it is estimated, by uid."""
    found = [entry for record in books.records().values() for entry in record.nodes.items()]
    return {uid: (entry.end, entry.estimated) for uid, entry in found}


# -- an end that nobody has told -----------------------------------------------------------------


async def test_a_node_ended_where_another_has_its_name() -> None:
    books = await with_node()
    old, new = anew(books)
    books.keeper.nodes.put(new)
    await books.keeper.write_due()
    assert entries(books) == {old["metadata"]["uid"]: (NOON, True), new["metadata"]["uid"]: (None, False)}
    books.keeper.nodes.put(old)  # a late word of it
    await books.keeper.write_due()
    assert entries(books)[new["metadata"]["uid"]] == (None, False)
    books.keeper.nodes.drop(old)
    await books.keeper.write_due()
    assert entries(books)[old["metadata"]["uid"]] == (books.now, False), "who saw it go knows better"


async def test_a_late_word_of_a_node_before_the_last_two_ends_none() -> None:
    books = await with_node()
    first, second = anew(books)
    books.keeper.nodes.put(second)
    _, third = anew(books)
    books.keeper.nodes.put(third)
    books.keeper.nodes.put(first)
    await books.keeper.write_due()
    assert entries(books)[third["metadata"]["uid"]] == (None, False)


@pytest.mark.parametrize("profiles", [{"h100": H100}, {}], ids=["of-a-profile", "of-none"])
async def test_a_node_of_which_nothing_was_told_for_long_is_asked_about(profiles: Json) -> None:
    books = Bookkeeping()
    books.profiles = profiles
    body = books.cluster.put(node("a", NOON))
    uid = body["metadata"]["uid"]
    books.keeper.nodes.put(body)
    await books.keeper.write_due()
    books.clock.advance(QUIET_SECONDS)
    await books.sweeper.sweep()
    [known] = books.keeper.nodes.list_usages([uid])
    assert not known.end.known and known.end.until == books.keeper.second(), "it is there"
    seen_last = books.now
    books.cluster.bury(NODE, "a")
    books.clock.advance(QUIET_SECONDS - 1)
    await books.sweeper.sweep()
    assert books.keeper.nodes.list_usages([uid]) == [known], "the watch may tell of it yet"
    books.clock.advance(1)
    await books.sweeper.sweep()
    assert not books.keeper.nodes.list_usages([uid])
    assert entries(books) == ({uid: (seen_last, True)} if profiles else {})


async def test_no_node_ends_before_it_begins() -> None:
    """The operator's clock is behind that of the API server."""
    books = Bookkeeping()
    body = books.cluster.put(node("a", "2026-01-31T12:00:30Z"))
    uid = body["metadata"]["uid"]
    books.keeper.nodes.put(body)
    books.keeper.nodes.drop(body)
    [known] = books.keeper.nodes.list_usages([uid])
    assert known.end.until == known.start
    await books.keeper.write_due()
    assert entries(books) == {uid: ("2026-01-31T12:00:30Z", False)}


# -- pods that are heard of before their Node --------------------------------------------------------


@pytest.mark.parametrize("told", ["before", "after", "never"])
async def test_a_pod_that_is_heard_of_before_its_node_is_not_on_the_one_before_it(told: str) -> None:
    """`told`: when it is told that the Node that had the name is gone, as the pod is noted first."""
    books = await with_node()
    old, new = anew(books)
    if told == "before":
        books.clock.advance(-HOUR)
        books.keeper.nodes.drop(old)
        books.clock.advance(HOUR)
    books.clock.advance(5)
    books.bind("w0")
    await books.note()
    if told == "after":
        books.keeper.nodes.drop(old)
    books.keeper.nodes.put(new)
    books.clock.advance(2 * HOUR)
    usage = await books.note()
    await books.keeper.write_due()
    uids = [body["metadata"]["uid"] for body in (old, new)]
    assert usage is not None and [pod.node for pod in usage.pods] == [uids[1]] == [books.pods()["w0"].node]
    assert account(usage, TARIFF, books.keeper.second()).cost.money == Money.dollars(196)
    every = build_accounts(books.keeper.nodes.list_usages(uids), usage.pods, TARIFF, books.keeper.second())
    assert every[IDLE].cost.money < Money.dollars(99)


async def test_a_pod_is_put_down_for_its_node_by_the_next_operator_too() -> None:
    books = await with_node()
    old, new = anew(books)
    new = copied(new)
    new["metadata"]["labels"] |= {
        "topology.kubernetes.io/region": "eu-1",
        "karpenter.sh/capacity-type": "spot",
    }
    books.cluster.put(new)
    books.bind("w0")
    books.cluster.refuse["get", NODE] = ClusterError("it does not answer")
    await books.note()
    assert books.pods()["w0"].node == old["metadata"]["uid"]
    books.cluster.refuse.clear()
    books.begin()
    await books.note()
    entry = books.pods()["w0"]
    assert (entry.node, entry.region, entry.capacity) == (new["metadata"]["uid"], "eu-1", "Spot")


async def test_a_node_that_no_profile_fits_is_of_the_sku_of_the_pod_that_was_put_down_for_it() -> None:
    books = await with_node()
    price = {"dollarsPerNodeHour": 12, "capacity": "Spot"}
    books.profiles["h100"] = ComputeProfileSpec.from_json({**H100.to_json(), "price": price})
    _, new = anew(books)
    new = copied(new)
    del new["metadata"]["labels"]["pool"]
    books.cluster.put(new)
    books.bind("w0")
    books.cluster.refuse["get", NODE] = ClusterError("it does not answer")
    await books.note()
    books.cluster.refuse.clear()
    books.begin()
    await books.note()
    await books.keeper.write_due()
    [entry] = [
        known
        for record in books.records().values()
        for uid, known in record.nodes.items()
        if uid == new["metadata"]["uid"]
    ]
    assert (entry.capacity, books.pods()["w0"].capacity) == ("Spot", "Spot")


async def test_a_pod_that_was_bound_while_its_node_went_stays_there() -> None:
    books = await with_node()
    books.bind("w0")
    old, new = anew(books)
    books.keeper.nodes.put(new)
    for _ in range(2):
        await books.note()
        assert books.pods()["w0"].node == old["metadata"]["uid"]


async def test_a_pod_bound_to_a_node_that_is_not_there_is_on_none() -> None:
    books = await with_node()
    old = copied(books.cluster.objects[NODE, "a"])
    books.cluster.bury(NODE, "a")
    books.keeper.nodes.drop(old)
    books.clock.advance(1)
    books.bind("w0")
    await books.note()
    assert books.pods()["w0"].node == "a"


# -- what nobody foresaw -----------------------------------------------------------------------------


async def test_what_is_wrong_with_one_node_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    books = Bookkeeping()
    spoiled = node("b", NOON, providerID=f"{'x' * 300}://i-1")
    spoiled["status"]["allocatable"]["cpu"] = "1E"
    for body in (spoiled, node("a", NOON)):
        books.keeper.nodes.put(books.cluster.put(body))
    for _ in range(3):
        books.clock.advance(60)
        await books.keeper.write_due()
    assert set(books.nodes()) == {"a"}
    [line] = [line for line in caplog.records if line.levelname == "ERROR"]
    assert line.exc_info and "provider" in vars(line)["fields"]["error"]
    spoiled["spec"] = {}
    books.keeper.nodes.put(
        books.cluster.put({**spoiled, "metadata": books.cluster.objects[NODE, "b"]["metadata"]})
    )
    books.begin()
    await books.keeper.write_due()
    assert books.nodes()["b"].millicores == 10**15
