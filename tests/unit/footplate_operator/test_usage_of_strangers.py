"""What pods and records say of owners is not believed: whoever may make pods may name any."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from footplate_ledger.units import Energy
from footplate_ledger.usage import MeasuredEnergy, Owner
from footplate_operator.errors import LeadershipLost
from footplate_operator.runtime.kinds import NODE, POD, Json, Kind
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.orphans import Orphans
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.operator_fakes import NAME
from tests.support.pod_usage import GPU, NOON, Bookkeeping, begun, node, seen


class Asked(FakeCluster):
    """Notes what is asked for; whoever asks for `?` gets a collection, as from a path that ends there."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.asked: list[str] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        self.asked.append(f"{namespace}/{name}")
        if name.startswith("?"):
            await asyncio.sleep(0)
            return {"apiVersion": "v1", "kind": "UsageRecordList", "metadata": {}, "items": []}
        return await super().get(kind, namespace, name)


def a_pod(books: Bookkeeping, name: str = "evil") -> Json:
    """A pod on a node, made by somebody."""
    books.cluster.put(node("a", NOON))
    books.bind(name)
    return books.cluster.objects[POD, name]


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"uid": "?a="}, id="query"),
        pytest.param({"uid": "../../../../api/v1/namespaces/victim/pods/x?"}, id="path"),
        pytest.param({"uid": "a#"}, id="fragment"),
        pytest.param({"uid": ""}, id="no-uid"),
        pytest.param({"uid": "a" * 64}, id="no-label"),
        pytest.param({"name": "../../secrets/x"}, id="name-is-a-path"),
        pytest.param({"name": ".."}, id="name-leads-up"),
        pytest.param({"kind": "Pipeline"}, id="unknown-kind"),
    ],
)
async def test_nothing_is_asked_about_an_owner_that_is_none(
    forged: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    books = Bookkeeping(Asked)
    body, owner = a_pod(books), replace(books.owner, **{"name": "gone", **forged})
    for _ in range(3):
        books.keeper.observe_pod(owner, seen(body), False)
        books.keeper.track_orphans()
    async with asyncio.timeout(5):
        await books.keeper.write_due()
    assert (books.cluster.asked, books.records(), books.keeper.kept) == ([], {}, {})  # type: ignore[attr-defined]  # Asked
    assert [line.message for line in caplog.records] == ["not recording pods whose owner is invalid"]


def test_names_lead_nowhere_else() -> None:
    assert USAGE_RECORD.path("", "../x?y#z/") == (
        "/apis/footplate.dev/v1alpha1/usagerecords/..%2Fx%3Fy%23z%2F"
    )
    assert POD.path("a/b", "c") == "/api/v1/namespaces/a%2Fb/pods/c"
    assert POD.path("a", "b.c-1", "status") == "/api/v1/namespaces/a/pods/b.c-1/status"


async def test_an_answer_that_is_not_the_record_is_not_read() -> None:
    class Elsewhere(FakeCluster):
        async def get(self, kind: Kind, namespace: str, name: str) -> Json:
            await asyncio.sleep(0)
            return (
                {"metadata": {}, "items": []} if kind == USAGE_RECORD else await super().get(kind, "", name)
            )

    books = Bookkeeping(Elsewhere)
    async with asyncio.timeout(5):
        assert await books.note() is None
    assert books.keeper.kept["uid-1"].failures == 1


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"namespace": "evil"}, id="of-another-namespace"),
        pytest.param({"name": "other"}, id="of-another-name"),
    ],
)
@pytest.mark.parametrize("known", ["kept", "there", "settled"])
async def test_nobody_bills_a_run_by_naming_its_uid(forged: dict[str, str], known: str) -> None:
    books = await begun()
    billed = set(books.pods())
    if known != "kept":
        books.end("w0")
        await books.note()
        books.begin()
    if known == "there":
        books.keeper.observe_owner(books.owner, gone=False)
    evil = copied(books.cluster.objects[POD, "w0"])
    evil["metadata"] |= {"name": "evil", "namespace": "evil", "uid": "evil-uid"}
    for _ in range(3):
        books.keeper.observe_pod(replace(books.owner, **forged), seen(evil), False)
        books.keeper.track_orphans()
        books.clock.advance(600)
        await books.keeper.write_due()
    assert {kept.owner for kept in books.keeper.kept.values()} <= {books.owner}
    usage = await books.note()
    assert usage is not None and {pod.owner for pod in usage.pods} == {books.owner}
    assert set(books.pods()) == billed


async def test_a_run_has_its_uid_whoever_named_it_before() -> None:
    books = Bookkeeping()
    body, forged = a_pod(books), replace(books.owner, namespace="evil")
    books.keeper.observe_pod(forged, seen(body), False)
    books.keeper.observe_owner(books.owner, gone=False)
    books.keeper.track_orphans()
    assert not books.keeper.kept
    books.keeper.observe_pod(books.owner, seen(body), False)
    books.keeper.observe_owner(books.owner, gone=True)
    await books.keeper.write_due()
    assert books.pods()["evil"].name == "evil"
    owner = books.records()["uid-1-0"].owner
    assert owner is not None and owner.namespace == "default"


def test_room_is_made_by_owners_that_are_not_there(caplog: pytest.LogCaptureFixture) -> None:
    owners = [Owner("TrainingRun", "a", f"r{number}", f"u{number}") for number in range(5)]
    found = Orphans(["TrainingRun"], {"u0": owners[0], "u2": owners[2]}, most=3)
    for owner in owners:
        found.find_or_create(owner)
    assert found.list_gone_owners() == [owners[4]] and found.find_or_create(owners[0]) is not None
    told = [(line.message, vars(line)["fields"]["uid"]) for line in caplog.records]
    assert told == [("dropping pods of an owner that was never listed", uid) for uid in ("u1", "u3")]


# -- numbers ----------------------------------------------------------------------------


def gone(books: Bookkeeping, *owners: Owner) -> None:
    """They are not there any more, or never were."""
    for owner in owners:
        books.keeper.observe_owner(owner, gone=True)


@pytest.mark.parametrize("cpu", ["1E", "9223372036854775807", "1e400"])
async def test_what_a_pod_asks_for_ends_nobody(cpu: str, caplog: pytest.LogCaptureFixture) -> None:
    books = Bookkeeping()
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    books.bind("evil", cpu=cpu, **{GPU: "5E"})
    stranger = replace(books.owner, namespace="evil", name="none", uid="0-0")
    books.keeper.observe_pod(stranger, seen(books.cluster.objects[POD, "evil"]), False)
    books.bind("w0")
    books.hear(books.cluster.objects[POD, "w0"])
    gone(books, stranger, books.owner)
    for _ in range(3):
        await books.keeper.write_due()
    entry = books.pods()["evil"]
    assert (entry.millicores, entry.devices) == (10**15, 10**15)
    assert books.pods()["w0"].millicores == 4000
    [line] = caplog.records
    assert line.message == "a pod's usage is capped at what a record can hold"
    books.begin()
    assert books.keeper.kept == {}


@pytest.mark.parametrize("how", ["tended", "noted"])
async def test_what_nobody_foresaw_of_one_owner_ends_no_other(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    books = await begun()
    other, [uid] = replace(books.owner, name="other", uid="uid-other"), books.records()["uid-1-0"].pods
    books.measured = {uid: MeasuredEnergy(Energy(Fraction(2**64)))}  # more than any record holds
    kept = books.keeper.kept["uid-1"]
    if how == "noted":
        books.clock.advance(10)
        usage = await books.note()
        assert usage is not None and len(usage.pods) == 1, "what is known is known"
    else:
        kept.measure(books.measured)
        gone(books, books.owner)
    books.bind("o0")
    books.keeper.observe_pod(other, seen(books.cluster.objects[POD, "o0"]), False)
    gone(books, other)
    books.end("w0")
    books.hear(books.cluster.objects[POD, "w0"])
    for _ in range(5):
        await books.keeper.write_due()
        books.clock.advance(120)
    assert books.pods()["o0"].name == "o0" and kept.failures >= 4
    [line] = [line for line in caplog.records if line.levelname == "ERROR"]
    assert line.exc_info and "millijoules" in vars(line)["fields"]["error"]
    before = kept.failures
    await books.keeper.write_due()
    await books.keeper.write_due()
    assert kept.failures == before + 1, "it is tried again after a while"


@pytest.mark.parametrize("how", ["tended", "noted", "node"])
async def test_who_leads_no_more_says_so(how: str) -> None:
    books = await begun()
    await books.keeper.write_due()
    books.end("w0")
    for verb in ("create", "merge"):
        books.cluster.refuse[verb, USAGE_RECORD] = LeadershipLost("another one leads")
    if how == "tended":
        books.hear(books.cluster.objects[POD, "w0"])
        gone(books, books.owner)
    if how == "node":
        books.keeper.nodes.drop(books.cluster.objects[NODE, "a"])
    with pytest.raises(LeadershipLost):
        await (books.note() if how == "noted" else books.keeper.write_due())


# -- records ----------------------------------------------------------------------------


async def many(books: Bookkeeping, count: int = 300) -> None:
    """So many pods, in two records, that have ended."""
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    for number in range(count):
        books.bind(f"w{number}", cpu="10m")
    await books.note()
    for number in range(count):
        books.end(f"w{number}")
    await books.note()


async def test_a_run_of_which_a_record_was_taken_too_early_is_over_all_the_same() -> None:
    books = Bookkeeping()
    await many(books)
    books.cluster.bury(TRAINING_RUN, NAME)
    books.cluster.bury(USAGE_RECORD, "uid-1-0")
    books.begin()
    await books.sweeper.sweep()
    await books.keeper.write_due()
    assert books.records()["uid-1-1"].completed


async def test_the_last_record_is_the_first_to_be_over() -> None:
    books = Bookkeeping()
    await many(books)
    books.cluster.bury(TRAINING_RUN, NAME)
    over: list[str] = []
    books.cluster.watches.append(
        lambda event, body: (
            over.append(body["metadata"]["name"]) if body.get("spec", {}).get("completed") else None
        )
    )
    books.keeper.observe_owner(books.owner, gone=True)
    await books.keeper.write_due()
    assert over == ["uid-1-1", "uid-1-0"]


async def test_a_record_that_somebody_deleted_hides_no_other() -> None:
    books = Bookkeeping()
    await many(books)
    books.cluster.bury(USAGE_RECORD, "uid-1-0")
    later = set(books.pods())
    books.begin()
    for number in range(300):
        books.cluster.bury(POD, f"w{number}")
    usage = await books.note()
    assert usage is not None and len(usage.pods) == len(later) == 44


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"owner": {"kind": "TrainingRun", "shoe": 1}}, id="owner"),
        pytest.param({"owner": {"kind": "Pipeline", "namespace": "a", "name": "b", "uid": "c"}}, id="kind"),
        pytest.param({"pods": {"p": {}}, "owner": None}, id="pod"),
        pytest.param({"nodes": {"n": {"shoe": 1}}, "owner": None}, id="node"),
        pytest.param({"nodes": "many", "owner": None}, id="text"),
    ],
)
async def test_a_record_that_cannot_be_read_stops_nobody(
    spoiled: Json, caplog: pytest.LogCaptureFixture
) -> None:
    books = await begun()
    body = copied(books.cluster.objects[USAGE_RECORD, "uid-1-0"])
    del body["metadata"]["uid"]
    body["metadata"]["name"] = "a-spoiled-0"
    body["spec"] = {name: part for name, part in {**body["spec"], **spoiled}.items() if part is not None}
    books.cluster.put(body)
    books.cluster.bury(TRAINING_RUN, NAME)
    books.end("w0")
    books.begin()
    for _ in range(3):
        await books.sweeper.sweep()
        await books.keeper.write_due()
    assert "uid-1-0" not in {name for name, record in _readable(books).items() if not record["completed"]}
    assert len([line for line in caplog.records if line.levelname == "WARNING"]) == 1


def _readable(books: Bookkeeping) -> dict[str, Json]:
    own = books.cluster.all(USAGE_RECORD)
    return {
        body["metadata"]["name"]: {"completed": body["spec"].get("completed", False)}
        for body in own
        if body["metadata"]["name"] != "a-spoiled-0"
    }


async def test_pods_find_room_beside_a_record_that_cannot_be_read() -> None:
    books = Bookkeeping()
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    spoiled = {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "UsageRecord",
        "metadata": {"name": "uid-1-0"},
        "spec": {"pods": {"p": {}}},
    }
    books.cluster.put(spoiled)
    books.bind("w0")
    await books.note()
    [entry] = books.cluster.objects[USAGE_RECORD, "uid-1-1"]["spec"]["pods"].values()
    assert entry["name"] == "w0"


async def test_a_record_of_another_owner_is_not_taken_for_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    books = await begun()
    body = copied(books.cluster.objects[USAGE_RECORD, "uid-1-0"])
    body["spec"]["owner"]["namespace"] = "evil"
    books.cluster.put(body)
    books.begin()
    assert await books.note() is None
    [line] = caplog.records
    assert "'evil'" in vars(line)["fields"]["error"] and books.keeper.kept["uid-1"].failures == 1
