"""What a Node is worth, and how its time is noted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_ledger.account import Cost, Tariff
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Money, Seconds
from footplate_ledger.usage import Owner, Sku
from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import NODE, POD, Json
from footplate_operator.trainingrun.node import trim_node
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.trainingrun.status.cost import account
from footplate_operator.usage.nodes import NodeObservation, build_sku, find_profile, observe_node
from footplate_operator.usage.pod_observation import observe_pod
from footplate_operator.usage.pods import PodProfile
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import copied
from tests.support.operator_fakes import NAME
from tests.support.pod_usage import GPU, H100, NOON, Bookkeeping, node

CPU = ComputeProfileSpec.from_json({"backend": "gloo"})


def seen(labels: dict[str, str] | None = None, **spec: Any) -> NodeObservation:
    body = node("a", NOON, labels, **spec)
    body["metadata"]["uid"] = "n1"
    return observe_node(trim_node(body))


@pytest.mark.parametrize(
    ("labels", "capacity"),
    [
        pytest.param({}, None, id="unsaid"),
        pytest.param({"karpenter.sh/capacity-type": "spot"}, Capacity.SPOT, id="karpenter"),
        pytest.param({"karpenter.sh/capacity-type": "reserved"}, Capacity.RESERVED, id="karpenter-reserved"),
        pytest.param({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, Capacity.ON_DEMAND, id="eks"),
        pytest.param({"eks.amazonaws.com/capacityType": "SPOT"}, Capacity.SPOT, id="eks-spot"),
        pytest.param({"cloud.google.com/gke-spot": "true"}, Capacity.SPOT, id="gke"),
        pytest.param({"cloud.google.com/gke-provisioning": "spot"}, Capacity.SPOT, id="gke-provisioning"),
        pytest.param({"kubernetes.azure.com/scalesetpriority": "spot"}, Capacity.SPOT, id="azure"),
        pytest.param({"karpenter.sh/capacity-type": "other"}, None, id="unknown-word"),
    ],
)
def test_how_a_node_was_bought_its_labels_say(labels: dict[str, str], capacity: Capacity | None) -> None:
    assert seen(labels).capacity == capacity


def test_what_labels_do_not_say_the_profile_does() -> None:
    price = {"dollarsPerNodeHour": 2.0, "capacity": "Reserved"}
    profile = ComputeProfileSpec.from_json({"backend": "gloo", "price": price})
    assert build_sku(seen({"topology.kubernetes.io/region": "eu-1"}), "p", profile) == Sku(
        "p", Capacity.RESERVED, "eu-1"
    )
    assert build_sku(None, "p", None) == Sku("p")


@pytest.mark.parametrize(
    ("provider", "name"), [("aws:///eu-1a/i-1", "aws"), ("gce://p/z/n", "gcp"), ("", ""), ("bare", "")]
)
def test_whose_node_it_is_its_provider_id_says(provider: str, name: str) -> None:
    assert seen(providerID=provider).provider == name


def test_devices_and_cpu_are_what_pods_may_ask_for() -> None:
    assert seen().allocatable == {"cpu": Fraction(16), GPU: Fraction(8)}


def with_scheduling(profile: ComputeProfileSpec, **scheduling: Any) -> ComputeProfileSpec:
    return ComputeProfileSpec.from_json({**profile.to_json(), "scheduling": scheduling})


TAINT = {"key": "team", "value": "a", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("spec", "profiles", "name"),
    [
        pytest.param({}, {"h100": H100, "cpu": CPU}, "h100", id="the-one-that-asks-most"),
        pytest.param({}, {"cpu": CPU, "any": CPU}, "any", id="of-equals-the-first-by-name"),
        pytest.param({}, {"b200": with_scheduling(H100, nodeSelector={"pool": "b200"})}, "", id="elsewhere"),
        pytest.param({"taints": [TAINT]}, {"h100": H100}, "", id="not-tolerated"),
        pytest.param(
            {"taints": [TAINT]},
            {"h100": with_scheduling(H100, tolerations=[{"key": "team", "operator": "Exists"}])},
            "h100",
            id="tolerated",
        ),
        pytest.param(
            {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
            {"h100": H100},
            "h100",
            id="what-passes-says-nothing",
        ),
        pytest.param(
            {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]},
            {"h100": H100},
            "h100",
            id="nor-does-its-end",
        ),
    ],
)
def test_the_profile_that_fits(spec: Json, profiles: dict[str, ComputeProfileSpec], name: str) -> None:
    assert find_profile(seen(**spec), profiles, ()) == name


PRICED = ComputeProfileSpec.from_json({**H100.to_json(), "price": {"dollarsPerNodeHour": 98}})


@pytest.mark.parametrize(
    ("profiles", "priced", "name"),
    [
        pytest.param({"a-debug": H100, "h100": H100}, {"h100"}, "h100", id="the-one-that-the-book-prices"),
        pytest.param({"a-debug": H100, "h100": PRICED}, set(), "h100", id="the-one-that-states-a-price"),
        pytest.param({"cpu": CPU, "h100": H100}, {"cpu"}, "cpu", id="before-what-is-asked-of-a-node"),
        pytest.param({"cpu": CPU, "h100": H100}, {"cpu", "h100"}, "h100", id="of-those-the-one-asking-most"),
        pytest.param({"a-debug": H100, "h100": PRICED}, None, None, id="the-book-is-not-known"),
        pytest.param({"h100": H100}, None, "h100", id="nor-need-it-be"),
    ],
)
def test_of_profiles_that_fit_one_that_has_a_price(
    profiles: dict[str, ComputeProfileSpec], priced: set[str] | None, name: str | None
) -> None:
    assert find_profile(seen(), profiles, priced) == name


async def test_a_run_is_not_free_by_a_profile_without_a_price_that_fits_its_nodes_too() -> None:
    books = Bookkeeping()
    books.profiles, books.priced = {"a-debug": H100, "h100": H100}, {"h100"}
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    books.bind("w0")
    books.clock.advance(3600)
    usage = await books.note()
    assert usage is not None
    tariff = Tariff(PriceBook([PriceBookEntry("e", Sku("h100"), HourlyRate(Fraction(98 * Money.NANO)), 0)]))
    cost = account(usage, tariff, books.keeper.second()).cost
    assert (cost.money, cost.unpriced) == (Money(Fraction(98 * Money.NANO)), Seconds())


async def test_which_of_several_fits_is_decided_once_the_book_is_known() -> None:
    books = Bookkeeping()
    books.profiles, books.priced = {"a-debug": H100, "h100": H100}, None
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    await books.keeper.write_due()
    assert not books.nodes()
    books.priced = {"h100"}
    await books.keeper.write_due()
    assert books.nodes()["a"].profile == "h100"


async def test_what_a_run_has_of_a_node_that_is_not_seen_stays_when_another_one_is_forgotten() -> None:
    books = Bookkeeping()
    books.cluster.refuse["get", NODE] = RequestForbidden("no", 403, "Forbidden")
    tariff = Tariff(PriceBook([PriceBookEntry("e", Sku("h100"), HourlyRate(Fraction(100 * Money.NANO)), 0)]))
    other, pods = replace(books.owner, name="other", uid="uid-other"), {}
    for name in ("w0", "other"):
        books.bind(name, **{GPU: "4"})
    books.clock.advance(3600)

    async def cost(owner: Owner, name: str) -> Cost:
        books.end(name)
        pods[name] = observe_pod(books.cluster.objects[POD, name], "worker", "h100")
        usage = await books.keeper.record_pods(
            owner, PodProfile("h100", H100), [pods[name]], lambda start: 1, {}
        )
        assert usage is not None
        return account(usage, tariff, books.keeper.second()).cost

    half = Money(Fraction(50 * Money.NANO))
    assert (await cost(other, "other")).money == (await cost(books.owner, "w0")).money == half
    assert books.pods()["w0"].node_devices == 8
    books.keeper.forget(other.uid)
    del books.cluster.objects[POD, "other"]
    await books.keeper.write_due()
    assert (await cost(books.owner, "w0")).money == half
    books.begin()
    assert (await cost(books.owner, "w0")).money == half, "the next operator knows nothing of the other one"


# -- their records -----------------------------------------------------------------------------


async def with_node(**labels: str) -> Bookkeeping:
    books = Bookkeeping()
    books.keeper.nodes.put(books.cluster.put(node("a", NOON, labels)))
    await books.keeper.write_due()
    return books


async def test_a_node_is_noted_while_it_is_there() -> None:
    books = await with_node()
    entry = books.nodes()["a"]
    assert (entry.start, entry.end, entry.profile, entry.devices, entry.millicores) == (
        NOON,
        None,
        "h100",
        8,
        16_000,
    )
    books.clock.advance(90)
    body = books.cluster.objects[NODE, "a"]
    books.cluster.bury(NODE, "a")
    books.keeper.nodes.drop(body)
    await books.keeper.write_due()
    entry = books.nodes()["a"]
    assert (entry.end, entry.seen, entry.estimated) == ("2026-01-31T12:01:30Z", None, False)


async def test_a_node_of_no_profile_is_noted_once_it_has_a_pod() -> None:
    books = Bookkeeping()
    books.profiles = {}
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    await books.keeper.write_due()
    assert not books.nodes()
    books.bind("w0")
    await books.note()
    await books.keeper.write_due()
    assert books.nodes()["a"].profile == "h100" and books.nodes()["a"].devices == 8


async def test_a_profile_that_comes_later_fits_a_node_that_none_has_fitted() -> None:
    books = Bookkeeping()
    books.profiles = {}
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    books.profiles = {"h100": H100}
    books.keeper.nodes.rematch_profiles()
    await books.keeper.write_due()
    assert books.nodes()["a"].profile == "h100"


async def test_sku_that_were_decided_stay() -> None:
    books = await with_node()
    better = with_scheduling(H100, nodeSelector={"pool": "h100", "kind": "x"})
    books.profiles = {"better": better, "h100": H100}
    body = copied(books.cluster.objects[NODE, "a"])
    body["metadata"]["labels"]["kind"] = "x"
    books.cluster.put(body)
    books.begin()
    await books.keeper.write_due()
    assert books.keeper.nodes.list_usages([body["metadata"]["uid"]])[0].sku.profile == "h100"
    assert books.nodes()["a"].profile == "h100"


async def test_devices_that_are_announced_late_or_fail_count_whole() -> None:
    books = await with_node()
    for devices in ("0", "8", "7"):
        body = copied(books.cluster.objects[NODE, "a"])
        body["status"]["allocatable"][GPU] = devices
        books.keeper.nodes.put(books.cluster.put(body))
        await books.keeper.write_due()
    assert books.nodes()["a"].devices == 8


async def test_a_node_that_went_while_nobody_looked_ended_by_the_last_evidence() -> None:
    books = await with_node()
    for _ in range(70):
        books.clock.advance(10)
        books.keeper.nodes.put(books.cluster.objects[NODE, "a"])
        await books.keeper.write_due()
    seen_last = books.nodes()["a"].seen
    assert seen_last is not None and seen_last > NOON
    books.cluster.bury(NODE, "a")
    books.clock.advance(3600)
    books.begin()
    await books.sweeper.sweep()
    await books.keeper.write_due()
    assert (books.nodes()["a"].end, books.nodes()["a"].estimated) == (seen_last, True)


async def test_a_node_is_over_once_no_run_is_left_that_had_pods_there() -> None:
    books = await with_node()
    books.bind("w0")
    await books.note()
    books.end("w0")
    body = books.cluster.objects[NODE, "a"]
    books.cluster.bury(NODE, "a")
    books.keeper.nodes.drop(body)
    name = f"node-{body['metadata']['uid']}"
    for _ in range(2):
        await books.note()
        await books.keeper.write_due()
        await books.sweeper.sweep()
        assert not books.records()[name].completed
        books.begin()  # its share of that Node is to be known still
    usage = await books.note()
    assert usage is not None and [known.devices for known in usage.nodes] == [8]
    books.cluster.bury(POD, "w0")
    books.cluster.bury(TRAINING_RUN, NAME)
    books.keeper.observe_owner(books.owner, gone=True)
    await books.keeper.write_due()
    await books.sweeper.sweep()
    assert books.records()[name].completed


@pytest.mark.parametrize("refused", [False, True])
async def test_no_node_is_over_before_its_end_is_written(refused: bool) -> None:
    books = await with_node()
    await books.keeper.write_due()
    books.cluster.bury(NODE, "a")
    books.clock.advance(3600)
    books.begin()
    states: list[tuple[bool, bool]] = []
    books.cluster.watches.append(
        lambda event, body: states.extend(
            (bool(body["spec"].get("completed")), "end" in entry) for entry in body["spec"]["nodes"].values()
        )
    )
    if refused:
        books.cluster.refuse["merge", USAGE_RECORD] = RequestForbidden("no right", 403)
        await books.sweeper.sweep()
        books.cluster.refuse.clear()
    await books.sweeper.sweep()
    assert states == [(False, True), (True, True)]


async def test_a_pod_on_a_node_that_was_made_again_is_not_on_the_new_one() -> None:
    books = await with_node()
    first = books.cluster.objects[NODE, "a"]
    books.bind("w0")
    books.clock.advance(60)
    books.cluster.bury(NODE, "a")
    books.keeper.nodes.drop(first)
    books.keeper.nodes.put(books.cluster.put(node("a", books.now)))
    await books.note()
    assert books.pods()["w0"].node == first["metadata"]["uid"]


async def test_records_say_that_they_are_ours() -> None:
    books = await with_node()
    books.bind("w0")
    await books.note()
    labels = [body["metadata"]["labels"] for body in books.cluster.all(USAGE_RECORD)]
    assert [label.get("app.kubernetes.io/managed-by") for label in labels] == ["footplate"] * 2
    assert {label.get("footplate.dev/run-uid") for label in labels} == {None, books.owner.uid}
