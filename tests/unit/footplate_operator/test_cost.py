"""`status.cost` of a run: what its pods cost by the ledger, and what their devices did meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.status import CostStatus, DeviceTime, TimeStatus
from footplate_ledger.account import Tariff
from footplate_ledger.device_activity import DeviceActivity
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Seconds
from footplate_ledger.usage import RUNNING, TOLD, EndTime, NodeLifetime, Owner, PodAllocation, Sku
from footplate_operator.trainingrun.status.cost import account, cost, distribute_seconds, growth
from footplate_operator.usage.owner_usage import OwnerUsage
from tests.support.properties import given

HOUR = 3600
H100 = Sku("h100")
RUN = Owner("TrainingRun", "research", "gpt", "u1")
TARIFF = Tariff(PriceBook([PriceBookEntry("e1", H100, HourlyRate.dollars_per_hour(8), 0)]))
NODE = NodeLifetime("n1", "a", H100, 0, EndTime(RUNNING, 0), devices=8)


def pod(uid: str = "p1", **changed: Any) -> PodAllocation:
    usual = PodAllocation(uid, RUN, Role.WORKER, 1, "n1", H100, 0, EndTime(RUNNING, 0), devices=8)
    return replace(usual, **changed)


def seconds(number: int) -> Seconds:
    return Seconds(Fraction(number))


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def members(status: CostStatus | None) -> Mapping[str, float]:
    assert status is not None and status.device_seconds is not None
    return {name: value for name, value in status.device_seconds if value}


def test_pods_cost_their_shares_of_nodes_and_whole_nodes_that_nobody_sees() -> None:
    half = pod(devices=4)
    assert cost(None, OwnerUsage([half], nodes=[NODE]), TARIFF, {}, at(HOUR)).dollars == 4.0
    assert cost(None, OwnerUsage([half]), TARIFF, {}, at(HOUR)).dollars == 8.0
    other = pod("p2", owner=replace(RUN, uid="u2"), devices=4)
    assert cost(None, OwnerUsage([half], [other]), TARIFF, {}, at(HOUR)).dollars == 4.0


def test_what_is_to_come_is_reckoned_as_if_pods_went_on() -> None:
    usage = OwnerUsage([pod(), pod("p2", node="n2", end=EndTime(TOLD, HOUR))])
    spent = [account(usage, TARIFF, hours * HOUR).cost.money.to_decimal() for hours in (1, 2, 3)]
    assert spent == [16, 24, 32]


def test_a_coordinator_is_free_unless_a_price_is_stated() -> None:
    cpu = NodeLifetime("n9", "c", Sku(""), 0, EndTime(RUNNING, 0), cpu=Fraction(8))
    serving = pod("c1", role=Role.COORDINATOR, node="n9", devices=0, cpu=Fraction(2), sku=Sku(""))
    free = cost(None, OwnerUsage([pod(), serving], nodes=[NODE, cpu]), TARIFF, {}, at(HOUR))
    assert (free.dollars, free.node_seconds, free.unpriced_node_seconds) == (8.0, HOUR, 0)
    stated = Tariff(
        PriceBook([*TARIFF.book.entries, PriceBookEntry("e2", Sku(""), HourlyRate.dollars_per_hour(1), 0)])
    )
    priced = cost(None, OwnerUsage([pod(), serving], nodes=[NODE, cpu]), stated, {}, at(HOUR))
    assert (priced.dollars, priced.node_seconds) == (8.25, HOUR * 1.25)


def test_a_coordinator_prices_no_node_that_nobody_sees() -> None:
    serving = pod("c1", role=Role.COORDINATOR, devices=0, cpu=Fraction(2), sku=Sku(""))
    shown = cost(None, OwnerUsage([serving, pod(start=60)]), TARIFF, {}, at(HOUR + 60))
    assert (shown.dollars, shown.unpriced_node_seconds) == (8.0, 0)


def test_seconds_of_devices_are_shared_out_as_the_time_has_passed() -> None:
    usage = OwnerUsage([pod(), pod("s1", role=Role.SPARE, node="n2")])
    first = cost(None, usage, TARIFF, {"starting": 100.0}, at(100))
    assert members(first) == {"starting": 800, "waiting": 800}
    then = cost(first, usage, TARIFF, {"productive": 75.0, "checkpointing": 25.0}, at(200))
    assert members(then) == {"starting": 800, "productive": 600, "checkpointing": 200, "waiting": 1600}
    trains = OwnerUsage([pod(), pod("s1", node="n2")])  # the spare has a slot by now
    last = cost(then, trains, TARIFF, {"productive": 10.0}, at(210))
    assert members(last) == {"starting": 800, "productive": 760, "checkpointing": 200, "waiting": 1600}


def test_an_end_that_was_earlier_takes_from_all_members_alike() -> None:
    first = cost(None, OwnerUsage([pod()]), TARIFF, {"productive": 90.0, "restarting": 10.0}, at(100))
    over = cost(first, OwnerUsage([pod(end=EndTime(TOLD, 50))]), TARIFF, {"restarting": 5.0}, at(105))
    assert members(over) == {"productive": 360, "restarting": 40}


def test_what_the_time_has_grown_by_is_its_difference() -> None:
    before, after = TimeStatus(starting=5.0), TimeStatus(starting=6.5, productive=2.0)
    assert {name: value for name, value in growth(before, after).items() if value} == {
        "starting": 1.5,
        "productive": 2.0,
    }
    assert growth(None, after)["starting"] == 6.5
    assert set(growth(None, after)) == set(TimeStatus.model_fields)


times = st.dictionaries(st.sampled_from(list(TimeStatus.model_fields)), st.floats(0, 1e6))


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), times), max_size=8))
def test_the_members_are_together_what_was_held_whatever_becomes_known(looks: list[Any]) -> None:
    known: Mapping[DeviceActivity, Seconds] = {}
    for whole, spares, passed in looks:
        known = distribute_seconds(known, seconds(whole), seconds(spares), passed)
        assert sum(part.exact for part in known.values()) == whole
        assert all(part.exact >= 0 for part in known.values())
        read = DeviceTime(**{bucket.value: float(part.exact) for bucket, part in known.items()})
        assert sum(Fraction(str(value)) for _, value in read) == whole
