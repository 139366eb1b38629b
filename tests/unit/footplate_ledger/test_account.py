"""Dollars, energy and carbon of pods together: what `status.cost` and the ledger's answers are made of."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec
from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
from footplate_ledger.account import Account, Tariff
from footplate_ledger.carbon import IntensitySeries, IntensitySource
from footplate_ledger.conversion import (
    build_node_entry,
    build_pod_entry,
    build_power_profile,
    build_price_entry,
    build_series,
    nodes_of,
    owner_of,
    parse_time,
    pods_of,
)
from footplate_ledger.device_activity import DeviceActivity
from footplate_ledger.energy import EnergyMethod
from footplate_ledger.intervals import Interval
from footplate_ledger.node_shares import infer_nodes
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.summary import build_cost_status
from footplate_ledger.units import Carbon, Energy, HourlyRate, Money, Power, Seconds
from footplate_ledger.usage import (
    LAST_SEEN,
    RUNNING,
    TOLD,
    EndTime,
    MeasuredEnergy,
    NodeLifetime,
    Owner,
    PodAllocation,
    PowerProfile,
    Sku,
)
from tests.support.ledger_reference import IDLE, build_accounts
from tests.support.properties import given

H100, A100 = Sku("h100", Capacity.SPOT, "eu-1"), Sku("a100")
RUN = Owner("TrainingRun", "research", "gpt", "u1")
HOUR, NOW = 3600, 100_000
TARIFF = Tariff(
    PriceBook([PriceBookEntry("e1", replace(H100, region=""), HourlyRate.dollars_per_hour("24.6"), 0)])
)
SITE = PowerProfile(Power(Fraction(700)), Power(Fraction(1000)), Fraction("1.2"), carbon_zone="FRA")


def node(**changed: Any) -> NodeLifetime:
    return replace(NodeLifetime("n1", "a", H100, 0, EndTime(TOLD, 2 * HOUR), devices=8), **changed)


def pod(**changed: Any) -> PodAllocation:
    usual = PodAllocation("p1", RUN, Role.WORKER, 1, "n1", H100, 0, EndTime(TOLD, HOUR), devices=8, site=SITE)
    return replace(usual, **changed)


def measured(joules: int, counter: int = 0, power: int = 0) -> MeasuredEnergy:
    return MeasuredEnergy(Energy.joules(joules), Seconds(Fraction(counter)), Seconds(Fraction(power)))


def test_an_hour_of_a_node_is_its_price_its_watts_and_their_carbon() -> None:
    found = build_accounts([node()], [pod()], TARIFF, NOW)
    assert found["p1"].cost.money == found[IDLE].cost.money == Money.dollars("24.60")
    # (8 x 700 W + 1,000 W) x 1 h x 1.2
    assert found["p1"].consumption.energy == Energy.kilowatt_hours("7.92")
    assert found["p1"].device_seconds == Seconds(Fraction(8 * HOUR))
    [(rank, carbon)] = found["p1"].carbon.items()
    assert rank is IntensitySource.ZONE and carbon == found["p1"].emitted > Carbon()


def test_what_was_measured_stands_and_the_rest_of_the_time_is_rated() -> None:
    half = 8 * HOUR // 2
    used = pod(measured=measured(1_000_000, counter=half), site=replace(SITE, node_watts=None))
    consumption = build_accounts([node()], [used], TARIFF, NOW)["p1"].consumption
    rated = Energy.joules(half * 700)
    assert consumption.energy == (Energy.joules(1_000_000) + rated) * Fraction("1.2")
    assert consumption.share(EnergyMethod.COUNTER) == consumption.share(EnergyMethod.RATED) == Fraction(1, 2)
    assert consumption.devices_only


def test_without_a_rated_power_the_energy_of_what_nobody_measured_is_unknown() -> None:
    found = build_accounts([node()], [pod(site=PowerProfile())], TARIFF, NOW)["p1"]
    assert found.consumption.share(EnergyMethod.UNKNOWN) == 1 and not found.is_energy_known
    shown = build_cost_status(found, {}, HOUR)
    assert shown.kilowatt_hours is None and shown.carbon_kilograms is None and shown.dollars == 24.6
    assert shown.method == "unknown 100 %"


def test_a_share_of_a_node_has_that_share_of_its_watts() -> None:
    quarter = build_accounts([node()], [pod(devices=2)], TARIFF, NOW)["p1"]
    assert quarter.consumption.energy == Energy.kilowatt_hours("7.92") * Fraction(1, 4)
    assert quarter.cost.money == Money.dollars("6.15")


def test_what_nobody_has_priced_is_absent_and_said() -> None:
    shown = build_cost_status(build_accounts([node()], [pod()], Tariff(PriceBook([])), NOW)["p1"], {}, HOUR)
    assert shown.dollars is None and shown.unpriced_node_seconds == shown.node_seconds == HOUR


def test_the_summary_says_buckets_estimates_and_sources() -> None:
    estimated = pod(end=EndTime(LAST_SEEN, HOUR), measured=measured(10, power=8 * HOUR))
    buckets = {DeviceActivity.PRODUCTIVE: Seconds(Fraction(8 * HOUR))}
    shown = build_cost_status(build_accounts([node()], [estimated], TARIFF, NOW)["p1"], buckets, 2 * HOUR)
    assert shown.estimated_node_seconds == HOUR and shown.until == "1970-01-01T02:00:00Z"
    assert shown.method == "power 100 %" and shown.carbon_source == "zone 100 %"
    assert shown.device_seconds is not None and shown.device_seconds.productive == 8 * HOUR


edges = st.integers(0, 2 * HOUR)


@given(st.lists(edges, min_size=1, max_size=5), st.lists(edges, min_size=2, max_size=6), st.integers(0, 9))
def test_parts_of_the_time_are_together_the_whole(cuts: list[int], ends: list[int], joules: int) -> None:
    pods = [
        pod(uid=f"p{place}", start=min(pair), end=EndTime(TOLD, max(pair)), devices=3)
        for place, pair in enumerate(pairwise(ends))
    ]
    pods[0] = replace(pods[0], measured=measured(joules, counter=1))
    hourly = IntensitySeries({"FRA": [(0, Fraction(100)), (HOUR, Fraction(300))]})
    tariff = replace(TARIFF, series=hourly)
    whole = sum(build_accounts([node()], pods, tariff, NOW).values(), Account())
    parts = [
        found
        for window in Interval(0, 2 * HOUR).cut(cuts)
        for found in build_accounts([node()], pods, tariff, NOW, window).values()
    ]
    assert same(sum(parts, Account()), whole)


def same(first: Account, second: Account) -> bool:
    """Whether nothing differs but amounts of nothing."""
    return (
        first.cost == second.cost
        and first.consumption.energy == second.consumption.energy
        and {name: time for name, time in first.consumption.seconds.items() if time.exact}
        == {name: time for name, time in second.consumption.seconds.items() if time.exact}
        and first.emitted == second.emitted
        and first.device_seconds == second.device_seconds
    )


# -- nodes that only their pods tell of ------------------------------------------------------


def test_nodes_that_nobody_told_of_are_there_while_their_pods_are() -> None:
    pods = [pod(), pod(uid="p2", start=100, end=EndTime(TOLD, 200)), pod(uid="p3", start=5000)]
    pods[2] = replace(pods[2], end=EndTime(RUNNING, 0))
    nodes = [there for there, _ in infer_nodes(pods, 6000)]
    assert [(node.start, node.end.until) for node in nodes] == [(0, HOUR), (5000, 6000)]
    found = build_accounts([], pods, TARIFF, 6000)
    assert IDLE not in found
    total = sum((account.cost.node_seconds.exact for account in found.values()), Fraction(0))
    assert total == HOUR + 1000


def test_a_share_of_such_a_node_rests_on_nothing_that_is_known_of_others() -> None:
    half = pod(devices=4, node_devices=8)
    other = replace(half, uid="p2", owner=replace(RUN, uid="other"))
    alone, both = build_accounts([], [half], TARIFF, NOW), build_accounts([], [half, other], TARIFF, NOW)
    assert same(alone["p1"], both["p1"]) and same(alone[IDLE], Account(both["p2"].cost))
    assert alone["p1"].cost.node_seconds == Seconds(Fraction(HOUR, 2)) and IDLE not in both


def test_what_is_not_held_of_such_a_node_is_idle_while_a_pod_is_there() -> None:
    pods = [pod(devices=2, node_devices=8), pod(uid="p2", devices=2, start=100, end=EndTime(TOLD, 200))]
    assert [(there.devices, there.span(NOW)) for there, _ in infer_nodes(pods, NOW)] == [
        (8, Interval(0, HOUR))
    ]
    found = build_accounts([], pods, TARIFF, NOW)
    assert found[IDLE].cost.node_seconds == Seconds(Fraction(3 * HOUR, 4) - 25)
    assert sum((account.cost.node_seconds.exact for account in found.values()), Fraction(0)) == HOUR


def test_such_a_node_has_the_price_of_the_first_pod_that_is_there() -> None:
    pods = [
        pod(devices=4, node_devices=8),
        pod(uid="p2", sku=A100, devices=4, node_devices=8, start=1800, end=EndTime(TOLD, 2 * HOUR)),
        pod(uid="p3", sku=A100, devices=4, start=2 * HOUR, end=EndTime(TOLD, 3 * HOUR)),
    ]
    assert [(there.sku, there.devices, there.span(4 * HOUR)) for there, _ in infer_nodes(pods, 4 * HOUR)] == [
        (H100, 8, Interval(0, HOUR)),
        (A100, 8, Interval(HOUR, 2 * HOUR)),
        (A100, 0, Interval(2 * HOUR, 3 * HOUR)),  # of which nobody says what it has
    ]
    on = [[known.uid for known in those] for _, those in infer_nodes(pods, 4 * HOUR)]
    assert on == [["p1", "p2"], ["p2"], ["p3"]]


# -- coordinators ----------------------------------------------------------------------------


def coordinator(**changed: Any) -> PodAllocation:
    return pod(uid="c", role=Role.COORDINATOR, devices=0, cpu=Fraction(1), site=PowerProfile(), **changed)


def test_a_coordinator_costs_what_has_a_price_and_nothing_is_unpriced_for_it() -> None:
    of_cpu = node(devices=0, cpu=Fraction(4))
    assert build_accounts([of_cpu], [coordinator()], TARIFF, NOW)["c"].cost.money == Money.dollars("6.15")
    free = build_accounts([of_cpu], [coordinator()], Tariff(PriceBook([])), NOW)["c"]
    assert same(free, Account())


def test_a_coordinator_takes_nothing_of_devices_and_nothing_of_a_node_that_nobody_told_of() -> None:
    with_devices = build_accounts([node()], [pod(), coordinator()], TARIFF, NOW)
    assert with_devices["p1"].cost.money == Money.dollars("24.60") and same(with_devices["c"], Account())
    alone = build_accounts([], [pod(devices=0, cpu=Fraction(1)), coordinator()], TARIFF, NOW)
    assert alone["p1"].cost.money == Money.dollars("24.60") and "c" not in alone


# -- what stands in the cluster ---------------------------------------------------------------


@pytest.mark.parametrize("known", [RUNNING, LAST_SEEN, TOLD])
def test_a_pod_is_read_as_it_was_written(known: int) -> None:
    used = pod(
        end=EndTime(known, 50),
        cpu=Fraction(7, 2),
        measured=measured(5, 6, 7),
        sku=H100,
        site=replace(SITE, provider="aws", region="eu-1", grams_per_kilowatt_hour=Fraction("56.1")),
        name="gpt-w0-0",
    )
    record = UsageRecordSpec(owner=owner_of(RUN), pods={used.uid: build_pod_entry(used)})
    assert pods_of(UsageRecordSpec.from_json(record.to_json())) == [used]


def test_a_node_is_read_as_it_was_written() -> None:
    used = node(provider="aws")
    record = UsageRecordSpec(nodes={"n1": build_node_entry(used)})
    assert nodes_of(UsageRecordSpec.from_json(record.to_json())) == [used]


def test_a_profile_says_what_a_node_draws() -> None:
    profile = ComputeProfileSpec.from_json(
        {
            "gpu": {
                "count": 8,
                "product": "H100",
                "memoryGiB": 80,
                "peakTflops": {"bf16": 989, "fp32": 67},
                "tdpWatts": 700,
            },
            "energy": {"powerUsageEffectiveness": 1.1, "gramsPerKilowattHour": 56.1, "nodeWatts": 2400},
        }
    )
    assert build_power_profile(profile, "aws", "eu-1") == PowerProfile(
        Power(Fraction(700)), Power(Fraction(2400)), Fraction("1.1"), Fraction("56.1"), "", "aws", "eu-1"
    )
    assert build_power_profile(ComputeProfileSpec.from_json({"backend": "gloo"}), "", "") == PowerProfile()


def test_prices_are_those_that_were_written_and_not_binary_ones() -> None:
    spec = PriceEntrySpec(
        profile="h100", dollars_per_node_hour=0.1, effective_from="2026-01-01T00:00:00Z", supersedes="e0"
    )
    entry = build_price_entry("e1", "2026-01-02T00:00:00+01:00", spec)
    assert entry.rate == HourlyRate.dollars_per_hour("0.1") and entry.supersedes == "e0"
    assert entry.created_at - entry.effective_from == 23 * HOUR


def test_series_of_one_zone_are_joined() -> None:
    specs = {
        name: CarbonIntensitySpec.from_json(
            {"zone": zone, "points": [{"from": f"1970-01-01T0{hour}:00:00Z", "gramsPerKilowattHour": grams}]}
        )
        for name, zone, hour, grams in (("b", "fra", 1, 70.5), ("a", "FRA", 0, 50), ("c", "Fra", 1, 60))
    }
    assert build_series(specs).points == {"FRA": [(0, Fraction(50)), (HOUR, Fraction(60))]}


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        parse_time("2026-01-01T00:00:00")
