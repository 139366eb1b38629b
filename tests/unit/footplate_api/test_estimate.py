"""What an hour of a run costs: by the ledger's units and prices, and unknown where nobody says it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from footplate_api.runs.estimate import HourlyCost, estimate_hourly, node_count
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.account import Tariff
from footplate_ledger.carbon import IntensitySeries, IntensitySource
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku

NOW = 1_790_000_000
GPU = {
    "count": 8,
    "product": "H100",
    "memoryGiB": 80,
    "peakTflops": {"bf16": 989, "fp32": 67},
    "tdpWatts": 700.0,
}
H100 = {"gpu": GPU, "processesPerNode": 8}
CPU = {"backend": "gloo"}
GRID = {"powerUsageEffectiveness": 1.1, "gramsPerKilowattHour": 56}
SERIES = IntensitySeries({"grid-1": [(NOW - 1, Fraction(30)), (NOW + 1, Fraction(900))]})


def book(*entries: tuple[str, str, Capacity, int]) -> PriceBook:
    return PriceBook(
        [
            PriceBookEntry(
                f"e{number}", Sku("a", capacity, region), HourlyRate.dollars_per_hour(dollars), since
            )
            for number, (dollars, region, capacity, since) in enumerate(entries)
        ]
    )


def estimated(
    spec: dict[str, Any],
    count: int | None = 2,
    prices: PriceBook | None = None,
    places: tuple[tuple[str, str], ...] = (),
) -> HourlyCost:
    return estimate_hourly("a", spec, count, Tariff(prices or PriceBook([]), SERIES), places, NOW)


@pytest.mark.parametrize(
    ("spec", "count", "expected"),
    [
        pytest.param(CPU, 2, (None, None, None), id="says-nothing"),
        pytest.param({**CPU, "price": {"dollarsPerNodeHour": 0.1}}, 3, ("0.3", None, None), id="decimal"),
        pytest.param({**CPU, "price": {"dollarsPerNodeHour": 0}}, 3, ("0", None, None), id="free"),
        pytest.param(
            {**CPU, "price": {"dollarsPerNodeHour": 1e6}}, 4096, ("4096000000", None, None), id="large"
        ),
        pytest.param({**H100, "energy": {}}, 2, (None, "13.44", "6.384"), id="usual-effectiveness"),
        pytest.param(H100, 2, (None, "11.2", "5.32"), id="no-cooling-is-stated"),
        pytest.param({**H100, "energy": GRID}, 2, (None, "12.32", "0.68992"), id="all-of-energy"),
        pytest.param(
            {**H100, "energy": {**GRID, "nodeWatts": 1000}}, 2, (None, "14.52", "0.81312"), id="whole-nodes"
        ),
        pytest.param({**CPU, "energy": GRID}, 2, (None, None, None), id="no-device"),
        pytest.param(
            {**CPU, "energy": {**GRID, "nodeWatts": 1000}}, 2, (None, "2.2", "0.1232"), id="nodes-without-one"
        ),
        pytest.param(
            {"price": {"dollarsPerNodeHour": "x"}, "gpu": 8}, 2, (None, None, None), id="another-form"
        ),
        pytest.param({**H100, "energy": GRID}, None, (None, None, None), id="nodes-unknown"),
    ],
)
def test_an_hour(spec: dict[str, Any], count: int | None, expected: tuple[str | None, ...]) -> None:
    found = estimated(spec, count)
    amounts = (found.dollars, found.kilowatt_hours, found.carbon_kilograms)
    assert [None if amount is None else f"{amount:f}" for amount in amounts] == [*expected]


@pytest.mark.parametrize(
    ("entries", "places", "dollars"),
    [
        pytest.param([("5", "", Capacity.ON_DEMAND, 0)], (), "10", id="in-force"),
        pytest.param([("5", "", Capacity.ON_DEMAND, NOW + 1)], (), None, id="not-yet"),
        pytest.param([("5", "", Capacity.SPOT, 0)], (), None, id="of-other-nodes"),
        pytest.param(
            [("5", "", Capacity.ON_DEMAND, 0), ("7", "eu", Capacity.ON_DEMAND, 0)],
            (("aws", "eu"),),
            "14",
            id="of-the-region-of-its-nodes",
        ),
        pytest.param(
            [("5", "", Capacity.ON_DEMAND, 0), ("7", "eu", Capacity.ON_DEMAND, 0)],
            (("aws", "eu"), ("aws", "us")),
            "10",
            id="nobody-knows-the-region",
        ),
    ],
)
def test_the_book_decides_once_it_has_something_of_the_profile(
    entries: list[Any], places: tuple[tuple[str, str], ...], dollars: str | None
) -> None:
    stated = {**CPU, "price": {"dollarsPerNodeHour": 99}}
    found = estimated(stated, prices=book(*entries), places=places)
    assert found.dollars == (None if dollars is None else Decimal(dollars))


@pytest.mark.parametrize(
    ("energy", "places", "rank", "source"),
    [
        pytest.param(GRID, (), IntensitySource.PROFILE, "the profile's gramsPerKilowattHour", id="profile"),
        pytest.param(
            {"carbonZone": "grid-1"}, (), IntensitySource.SERIES, "the series of zone grid-1", id="series"
        ),
        pytest.param({"carbonZone": "FRA"}, (), IntensitySource.ZONE, "France", id="country"),
        pytest.param(
            {}, (("aws", "eu-central-1"),), IntensitySource.ZONE, "aws eu-central-1", id="region-of-a-cloud"
        ),
        pytest.param({}, (), IntensitySource.WORLD, "world 2018", id="world"),
    ],
)
def test_it_is_said_where_the_intensity_is_from(
    energy: dict[str, Any], places: tuple[tuple[str, str], ...], rank: IntensitySource, source: str
) -> None:
    found = estimated({**H100, "energy": energy}, places=places)
    assert found.carbon_rank is rank and str(found.carbon_source).startswith(source)
    assert found.carbon_kilograms and found.devices_only


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        pytest.param({"compute": {"nodes": 4}}, 4, id="workers"),
        pytest.param({"compute": {"nodes": 4, "spares": 2}}, 6, id="and-spares"),
        pytest.param({}, None, id="unknown"),
    ],
)
def test_the_nodes_that_are_held(spec: dict[str, Any], count: int | None) -> None:
    assert node_count(spec) == count
