"""Energy by its methods, carbon by its place, and the rows that others published."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from tools import cloud_regions

from footplate_elastic.agent.devices import LONGEST_GAP
from footplate_ledger.carbon import (
    CLOUDS,
    GridLocation,
    IntensitySeries,
    IntensitySource,
    find_intensity,
    find_yearly_intensity,
    load_intensity_table,
    split_by_intensity,
)
from footplate_ledger.energy import Consumption, EnergyMethod, rated_energy
from footplate_ledger.intervals import Interval
from footplate_ledger.units import HOUR, Carbon, Energy, Intensity, Power, Seconds
from tests.support.ledger_reference import compute_emissions
from tests.support.nvml import Sample, of_device
from tests.support.properties import given

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"
WATTS = Power(Fraction(700))
NOWHERE = IntensitySeries()
DAY = Interval(0, 24 * HOUR)


def counter(second: int, joules: int) -> Sample:
    return Sample(second, counter=Energy.joules(joules))


def power(second: int, watts: int) -> Sample:
    return Sample(second, power=Power(Fraction(watts)))


# -- rows that others published ----------------------------------------------------------


@pytest.mark.parametrize(
    ("device_hours", "watts", "pue", "grams", "megawatt_hours", "tons"),
    [
        pytest.param(10_000 * Fraction("14.8") * 24, 330, "1.10", 429, 1287, "552.1", id="GPT-3"),
        pytest.param(Fraction(184_320), 400, "1", "423.4", None, "31.22", id="Llama-2-7B"),
        pytest.param(Fraction(1_720_320), 400, "1", "423.4", None, "291.42", id="Llama-2-70B"),
        pytest.param(Fraction(1_300_000), 700, "1", 429, None, "390", id="Llama-3-8B"),
    ],
)
def test_published_rows_within_the_rounding_of_their_inputs(
    device_hours: Fraction, watts: int, pue: str, grams: Any, megawatt_hours: int | None, tons: str
) -> None:
    energy = rated_energy(1, Seconds(device_hours * HOUR), Power(Fraction(watts)), Fraction(pue))
    [(rank, carbon)] = compute_emissions(energy, GridLocation(grams=Fraction(grams)), NOWHERE, DAY).items()
    assert rank is IntensitySource.PROFILE
    near = Fraction(5, 1000)
    assert abs(Fraction(carbon.to_decimal(6)) / 1000 / Fraction(tons) - 1) < near
    if megawatt_hours is not None:
        assert abs(Fraction(energy.to_decimal(6)) / 1000 / megawatt_hours - 1) < near


# -- methods -----------------------------------------------------------------------------


def test_a_counter_counts_before_power_and_power_before_what_is_rated() -> None:
    both = [Sample(0, Energy.joules(5), WATTS), Sample(60, Energy.joules(305), WATTS), power(100, 500)]
    found = of_device(both, Interval(0, 200), Power(Fraction(400)))
    assert found.energy == Energy.joules(300 + 40 * 600 + 100 * 400)
    assert {method: int(seconds.exact) for method, seconds in found.seconds.items()} == {
        EnergyMethod.COUNTER: 60,
        EnergyMethod.POWER: 40,
        EnergyMethod.RATED: 100,
    }
    assert found.share(EnergyMethod.POWER) == Fraction(1, 5)


def test_a_counter_that_begins_anew_counts_from_zero() -> None:
    samples = [counter(0, 1000), counter(10, 1500), counter(20, 70), counter(30, 90)]
    assert of_device(samples, Interval(0, 30), None).energy == Energy.joules(500 + 70 + 20)


def test_samples_too_far_apart_are_no_line() -> None:
    far = [power(0, 100), power(LONGEST_GAP + 1, 100)]
    found = of_device(far, Interval(0, LONGEST_GAP + 1), WATTS)
    assert set(found.seconds) == {EnergyMethod.RATED}


def test_without_samples_and_rated_power_it_is_unknown_and_not_nothing() -> None:
    found = of_device([], Interval(0, 50), None)
    assert found.energy == Energy() and found.share(EnergyMethod.UNKNOWN) == 1


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 10**6)), max_size=12),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_repetition_of_samples_matters(found: list[tuple[int, int]], chance: Any) -> None:
    samples = [counter(second, joules) for second, joules in dict(found).items()]
    again = samples * 2
    chance.shuffle(again)
    assert of_device(again, Interval(50, 250), WATTS) == of_device(samples, Interval(50, 250), WATTS)


@given(st.lists(st.integers(0, 300), max_size=12), st.integers(0, 300), st.integers(0, 300))
def test_every_second_has_one_method(moments: list[int], start: int, length: int) -> None:
    span = Interval(start, start + length)
    found = of_device([power(second, 300) for second in set(moments)], span, WATTS)
    assert sum(seconds.exact for seconds in found.seconds.values()) == length
    assert sum(found.share(method) for method in EnergyMethod) == (1 if length else 0)


MEASURES = st.none() | st.integers(0, 10**6).map(Fraction)
SAMPLES = st.builds(
    lambda second, joules, watts: Sample(
        second, None if joules is None else Energy.joules(joules), None if watts is None else Power(watts)
    ),
    st.integers(0, 300),
    MEASURES,
    MEASURES,
)


@given(
    st.lists(SAMPLES, max_size=8, unique_by=lambda sample: sample.second),
    st.integers(0, 300),
    st.integers(0, 300),
    st.lists(st.integers(0, 600), max_size=3),
)
def test_parts_of_a_span_consume_what_the_span_does(
    samples: list[Sample], start: int, length: int, cuts: list[int]
) -> None:
    span = Interval(start, start + length)
    parts = [of_device(samples, part, WATTS) for part in span.cut(cuts)]
    assert sum(parts, Consumption()) == of_device(samples, span, WATTS)


def test_consumptions_add_up() -> None:
    rated_second = Consumption(
        {EnergyMethod.RATED: Energy.joules(1)}, {EnergyMethod.RATED: Seconds(Fraction(1))}
    )
    measured = Consumption({EnergyMethod.COUNTER: Energy.joules(2), EnergyMethod.RATED: Energy.joules(4)})
    assert (rated_second + measured).energies == {
        EnergyMethod.RATED: Energy.joules(5),
        EnergyMethod.COUNTER: Energy.joules(2),
    }
    whole = rated_second + Consumption(devices_only=True)
    assert whole.energy == Energy.joules(1) and whole.devices_only


# -- places ------------------------------------------------------------------------------


def test_the_best_that_is_known_of_a_place_counts() -> None:
    series = IntensitySeries({"DEU": [(100, Fraction(300)), (50, Fraction(200))]})
    place = GridLocation(zone="DEU", provider="gcp", region="europe-west3")
    assert find_intensity(GridLocation(Fraction(11), "DEU"), series, 120).intensity == Intensity(Fraction(11))
    seen = [find_intensity(place, series, second) for second in (49, 50, 99, 100)]
    assert [(found.rank, int(found.intensity.exact)) for found in seen] == [
        (IntensitySource.ZONE, 380),
        (IntensitySource.SERIES, 200),
        (IntensitySource.SERIES, 200),
        (IntensitySource.SERIES, 300),
    ]


@pytest.mark.parametrize("zone", ["fra", "Fra", "FRA"])
@pytest.mark.parametrize("loaded", ["FRA", "fra"])
def test_zones_are_compared_without_regard_to_case(zone: str, loaded: str) -> None:
    series, place = (
        IntensitySeries({loaded: [(50, Fraction(31)), (100, Fraction(28))]}),
        GridLocation(zone=zone),
    )
    assert (
        find_intensity(place, series, 60).rank is IntensitySource.SERIES
        and find_intensity(place, series, 0).rank is IntensitySource.ZONE
    )
    found = [
        (part, int(best.intensity.exact))
        for part, best in split_by_intensity(place, series, Interval(50, 150))
    ]
    assert found == [(Interval(50, 100), 31), (Interval(100, 150), 28)]
    assert set(compute_emissions(Energy.kilowatt_hours(1), place, series, Interval(0, 100))) == {
        IntensitySource.ZONE,
        IntensitySource.SERIES,
    }


@pytest.mark.parametrize(
    ("place", "rank", "grams", "says"),
    [
        pytest.param(GridLocation(zone="DEU"), IntensitySource.ZONE, "380.95", "Germany 2023", id="country"),
        pytest.param(
            GridLocation(zone="deu"), IntensitySource.ZONE, "380.95", "Germany 2023", id="small-letters"
        ),
        pytest.param(
            GridLocation(provider="aws", region="eu-north-1"),
            IntensitySource.ZONE,
            "8.8",
            "aws eu-north-1",
            id="aws",
        ),
        pytest.param(
            GridLocation(provider="azure", region="southafricanorth"),
            IntensitySource.ZONE,
            "900.6",
            "azure",
            id="azure",
        ),
        pytest.param(
            GridLocation(provider="gcp", region="us-west4"),
            IntensitySource.ZONE,
            "373",
            "gcp us-west4",
            id="gcp",
        ),
        pytest.param(
            GridLocation(zone="Atlantis"), IntensitySource.WORLD, "475", "zone 'Atlantis'", id="no-such-zone"
        ),
        pytest.param(
            GridLocation(provider="mars", region="x"),
            IntensitySource.WORLD,
            "475",
            "world",
            id="no-such-cloud",
        ),
        pytest.param(GridLocation(), IntensitySource.WORLD, "475", "world", id="nothing"),
    ],
)
def test_the_yearly_mean_says_where_it_is_from(
    place: GridLocation, rank: IntensitySource, grams: str, says: str
) -> None:
    found = find_yearly_intensity(place)
    assert (found.rank, found.intensity) == (rank, Intensity(Fraction(grams)))
    assert says in found.source and ("MIT" in found.source or "Apache-2.0" in found.source)


def test_the_table_is_grams_and_not_kilograms() -> None:
    whole = load_intensity_table()
    assert len(whole["countries"]["zones"]) == 213
    grams = [Fraction(country["grams"]) for country in whole["countries"]["zones"].values()]
    grams += [Fraction(value) for cloud in CLOUDS for value in whole[cloud]["zones"].values()]
    assert max(grams) < 1500 and sorted(grams)[len(grams) // 2] > 100
    assert all(1990 < country["year"] < 2100 for country in whole["countries"]["zones"].values())


LABELS = [
    (provider, region)
    for provider, listed in json.loads((GOLDEN / "cloud_regions.json").read_text()).items()
    for region in listed["regions"]
]


@pytest.mark.parametrize(("provider", "region"), LABELS)
def test_every_region_that_a_node_is_labelled_with_is_found(provider: str, region: str) -> None:
    found = find_yearly_intensity(GridLocation(provider=provider, region=region))
    assert found.rank is IntensitySource.ZONE and f"{provider} {region}" in found.source


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_table_has_regions_alone_and_the_country_of_each(cloud: str) -> None:
    whole = load_intensity_table()
    regions, of_regions = whole[cloud]["zones"], whole[cloud]["countries"]
    assert {region for provider, region in LABELS if provider == cloud} <= of_regions.keys()
    assert regions.keys() <= of_regions.keys()
    assert all(region == region.lower() for region in of_regions)
    assert set(of_regions.values()) <= whole["countries"]["zones"].keys()


@pytest.mark.parametrize(
    ("provider", "region", "grams", "says"),
    [
        pytest.param("azure", "eastus", "365.1277965", "azure eastus: EPA", id="azure"),
        pytest.param("azure", "EastUS", "365.1277965", "azure EastUS: EPA", id="capitals"),
        pytest.param("gcp", "me-central1", "575", "gcp me-central1: Google", id="misspelt-by-its-source"),
        pytest.param(
            "aws",
            "eu-central-2",
            "34.843",
            "the country of aws eu-central-2, Switzerland 2023",
            id="mean-of-the-country",
        ),
        pytest.param(
            "aws",
            "eu-atlantis-1",
            "475",
            "no data for aws region 'eu-atlantis-1'",
            id="no-such-region",
        ),
    ],
)
def test_a_region_counts_else_its_country(provider: str, region: str, grams: str, says: str) -> None:
    found = find_yearly_intensity(GridLocation(provider=provider, region=region))
    assert found.intensity == Intensity(Fraction(grams)) and says in found.source


def test_the_page_says_how_many_regions_have_a_row() -> None:
    page = (ROOT / "docs" / "energy-and-carbon.md").read_text()
    counts = {
        cloud: (len(load_intensity_table()[cloud]["zones"]), len(load_intensity_table()[cloud]["countries"]))
        for cloud in CLOUDS
    }
    for cloud, name in (("aws", "AWS"), ("azure", "Azure"), ("gcp", "Google")):
        own, listed = counts[cloud]
        assert f"{name} {own} of {listed}" in page


def test_the_renewal_refuses_what_is_no_region() -> None:
    assert cloud_regions.checked("azure", {"EastUS": "1", "asia": "2"}) == {"eastus": "1"}
    with pytest.raises(ValueError, match="gcp: eastus is no region of its list"):
        cloud_regions.checked("gcp", {"eastus": "1"})


@given(st.lists(st.tuples(st.integers(-10, 120), st.integers(0, 1000)), max_size=6))
def test_carbon_of_parts_is_that_of_the_whole(points: list[tuple[int, int]]) -> None:
    series = IntensitySeries({"X": [(second, Fraction(grams)) for second, grams in dict(points).items()]})
    place = GridLocation(zone="X")
    energy = Energy.kilowatt_hours(100)
    whole = compute_emissions(energy, place, series, Interval(0, 100))
    halves = [
        compute_emissions(energy * Fraction(1, 2), place, series, Interval(*edge))
        for edge in ((0, 50), (50, 100))
    ]
    for rank in IntensitySource:
        parts = [half.get(rank, Carbon()) for half in halves]
        assert parts[0] + parts[1] == whole.get(rank, Carbon())
