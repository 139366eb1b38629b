"""What is shown of costs: never less than before, and no more groups and pods than there is room for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from footplate_api.system import gauges
from footplate_api.system.cost_metrics import GROUPS, CostAmounts, CostSnapshot, Month, Pod, Pods, exposition
from footplate_api.system.gauges import Fingerprint, RunSnapshot, ScrapedRuns
from footplate_api.system.status_numbers import NOTHING, RunTotals, parse_status
from tests.support.exposition import faults

NOVEMBER, DECEMBER = 1_793_491_200, 1_796_083_200
ODD = 'a"b\\c\nd{e},f=é'


def samples(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Name -> values of the labels in the order of their names -> value."""
    return {
        family.name: {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


def of_run(status: Mapping[str, Any]) -> RunSnapshot:
    return RunSnapshot(
        Fingerprint(1, None, (0, 0)), "research", "gpt", "Running", 1, None, parse_status(status), None
    )


def cost(dollars: float | None, **more: Any) -> dict[str, Any]:
    return {"cost": {"dollars": dollars, "nodeSeconds": 1.0, **more}}


# -- of a run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "spent"),
    [
        pytest.param({}, NOTHING, id="nothing-before-there-was-a-pod"),
        pytest.param(cost(None), RunTotals(), id="unknown-without-price-and-measure"),
        pytest.param(
            cost(2.5, joules={"counter": 7.0, "rated": 1.0}, carbonKilograms=0.25),
            RunTotals(2.5, (7.0, 0.0, 1.0), 250.0),
            id="each-in-base-units",
        ),
        pytest.param(cost("2.5", joules=[1], carbonKilograms={}), RunTotals(), id="of-another-release"),
    ],
)
def test_what_a_status_says_was_spent(status: dict[str, Any], spent: RunTotals) -> None:
    assert parse_status(status).spent == spent


def test_a_correction_takes_nothing_from_a_counter() -> None:
    first = gauges.format_run(of_run(cost(10.0, joules={"counter": 5.0}, carbonKilograms=1.0)))
    corrected = gauges.format_run(of_run(cost(4.0, joules={"rated": 6.0})), first)
    later = gauges.format_run(of_run(cost(12.0, joules={"counter": 6.0}, carbonKilograms=2.0)), corrected)
    shown = [samples(gauges.exposition(ScrapedRuns([run]))) for run in (first, corrected, later)]
    run = ("gpt", "research")
    assert [found["footplate_run_cost_dollars"][run] for found in shown] == [10.0, 10.0, 12.0]
    assert [found["footplate_run_carbon_grams"][run] for found in shown] == [1000.0, 1000.0, 2000.0]
    by_method = [
        {method: value for (method, *_), value in found["footplate_run_energy_joules"].items()}
        for found in shown
    ]
    assert by_method == [
        {"counter": 5.0, "power": 0.0, "rated": 0.0},
        {"counter": 5.0, "power": 0.0, "rated": 6.0},
        {"counter": 6.0, "power": 0.0, "rated": 6.0},
    ]


# -- of a month -------------------------------------------------------------------------


GROUP = ("research", "h100")


def counted(snapshot: CostSnapshot) -> tuple[float | None, ...]:
    assert snapshot.counters is not None
    amounts = snapshot.counters.held[GROUP]
    return amounts.dollars, amounts.joules, amounts.grams


def month(dollars: float | None, since: int = NOVEMBER, until: int = NOVEMBER + 60) -> Month:
    return Month(since, until, {GROUP: CostAmounts(dollars, 5.0, 2.0)}, {"h100": CostAmounts(dollars)})


def test_counters_have_what_was_added_and_do_not_fall() -> None:
    first = CostSnapshot().with_month(replace(month(10.0), held={GROUP: CostAmounts(10.0, 5.0)}))
    assert counted(first) == (0.0, 0.0, None)
    later = first.with_month(month(14.0))
    assert counted(later) == (4.0, 0.0, 2.0)
    corrected = later.with_month(month(9.0))
    assert counted(corrected) == (4.0, 0.0, 2.0)
    assert counted(corrected.with_month(month(None))) == (4.0, 0.0, 2.0)
    again = corrected.with_month(month(12.0))
    assert counted(again) == (7.0, 0.0, 2.0) and again.counters is not None
    assert again.counters.idle["h100"].dollars == 7.0


def test_counters_go_on_when_a_month_begins() -> None:
    november = CostSnapshot().with_month(month(10.0)).with_month(month(14.0))
    assert counted(november.with_month(month(3.0, since=DECEMBER))) == (7.0, 5.0, 2.0)


def test_a_group_without_costs_in_the_new_month_keeps_its_counter() -> None:
    november = CostSnapshot().with_month(month(10.0)).with_month(month(14.0))
    assert counted(november.with_month(Month(DECEMBER, DECEMBER + 60))) == (4.0, 0.0, 0.0)


def test_gauges_have_the_exact_sums_of_the_month() -> None:
    snapshot = CostSnapshot().with_month(month(10.0)).with_month(month(4.0))
    found = samples(exposition(snapshot))
    assert found["footplate_month_to_date_cost_dollars"] == {GROUP: 4.0}
    assert found["footplate_month_to_date_energy_joules"] == {GROUP: 5.0}
    assert found["footplate_month_to_date_carbon_grams"] == {GROUP: 2.0}
    assert found["footplate_month_to_date_idle_dollars"] == {("h100",): 4.0}
    assert found["footplate_cost_dollars"] == {GROUP: 0.0}


def test_what_has_no_price_has_no_sample() -> None:
    found = samples(exposition(CostSnapshot().with_month(month(None))))
    for name in ("footplate_cost_dollars", "footplate_idle_dollars"):
        assert found[name] == found[name.replace("footplate_", "footplate_month_to_date_")] == {}
    assert found["footplate_month_to_date_energy_joules"] == {GROUP: 5.0}
    assert found["footplate_costs_counted_timestamp_seconds"] == {(): NOVEMBER + 60}


def test_there_is_room_for_so_many_groups_the_dearest_first() -> None:
    held = {(f"n{number}", "h100"): CostAmounts(float(number)) for number in range(GROUPS + 3)}
    before = CostSnapshot().with_month(Month(NOVEMBER, NOVEMBER))
    found = samples(exposition(before.with_month(Month(NOVEMBER, NOVEMBER, held))))
    for name in ("footplate_cost_dollars", "footplate_month_to_date_cost_dollars"):
        shown = found[name]
        assert len(shown) == GROUPS and ("n2", "h100") not in shown and ("n3", "h100") in shown
    assert found["footplate_costs_dropped"] == {(): 3}


# -- pods -------------------------------------------------------------------------------


def test_a_pod_is_told_once_under_whatever_name_and_the_rest_is_counted() -> None:
    pods = Pods([Pod("research", "gpt", "gpt-w0", "Worker")] * 2 + [Pod(ODD, ODD, ODD, ODD)], 7)
    text = exposition(replace(CostSnapshot().with_month(month(1.0)), pods=pods))
    found = samples(text)
    assert found["footplate_run_membership_info"] == {
        ("gpt", "research", "gpt-w0", "Worker"): 1.0,
        (ODD, ODD, ODD, ODD): 1.0,
    }
    assert found["footplate_run_pods_dropped"] == {(): 7}
    assert list(faults(text, {})) == []


def test_before_anything_is_found_nothing_is_said() -> None:
    assert exposition(CostSnapshot()) == ""
