"""What one device has consumed, sample by sample: the same as of the whole series at once."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import strategies as some

from footplate_elastic.agent.energy import LONGEST_GAP, DeviceEnergy, Reading
from footplate_ledger.energy import Method
from footplate_ledger.time import Span
from footplate_ledger.units import Energy, Power, Seconds
from tests.support.device_energy import Sample, of_device
from tests.support.properties import given

Series = list[tuple[int, Reading]]  # (second, what was shown)
A_GAP = some.integers(1, 3 * LONGEST_GAP) | some.sampled_from([LONGEST_GAP, LONGEST_GAP + 1])
A_READING = some.builds(
    Reading, some.none() | some.integers(0, 2**40), some.none() | some.integers(0, 2_000_000)
)


def measured(series: Series) -> DeviceEnergy:
    device = DeviceEnergy()
    for second, shown in series:
        device.take(second, shown)
    return device


@given(some.integers(0, 2**31), some.lists(some.tuples(A_GAP, A_READING), min_size=1))
def test_it_is_what_the_ledger_makes_of_the_whole_series(
    start: int, steps: list[tuple[int, Reading]]
) -> None:
    series, second = [], start
    for gap, shown in steps:
        second += gap
        series.append((second, shown))
    whole = of_device([_sample(*entry) for entry in series], Span(series[0][0], second), rated=None)

    device = measured(series)

    assert Fraction(device.half_millijoules, 2) == whole.energy.exact
    assert device.counter_seconds == whole.seconds.get(Method.COUNTER, Seconds()).exact
    assert device.power_seconds == whole.seconds.get(Method.POWER, Seconds()).exact


@given(some.lists(some.tuples(some.integers(-5, 200), A_READING)))
def test_no_sum_ever_falls_whatever_is_shown_and_whenever(steps: list[tuple[int, Reading]]) -> None:
    device, second, before = DeviceEnergy(), 0, (0, 0, 0)
    for step, shown in steps:
        second += step
        device.take(second, shown)
        sums = device.half_millijoules, device.counter_seconds, device.power_seconds
        assert all(now >= then for now, then in zip(sums, before, strict=True))
        before = sums


@pytest.mark.parametrize(
    ("series", "millijoules", "counter_seconds", "power_seconds"),
    [
        pytest.param([(7, Reading(500, 100))], 0, 0, 0, id="one sample tells nothing"),
        pytest.param([(0, Reading(500, None)), (10, Reading(3500, None))], 3000, 10, 0, id="counter"),
        pytest.param([(0, Reading(0, 300)), (10, Reading(8, 100))], 8, 10, 0, id="the counter goes first"),
        pytest.param([(0, Reading(500, 9)), (10, Reading(70, 9))], 70, 10, 0, id="it began again"),
        pytest.param([(0, Reading(0, None)), (900, Reading(9, None))], 9, 900, 0, id="counters have no gap"),
        pytest.param([(0, Reading(None, 100)), (10, Reading(None, 301))], 2005, 0, 10, id="power, a line"),
        pytest.param([(0, Reading(None, 1)), (1, Reading(None, 2))], 1.5, 0, 1, id="half a millijoule"),
        pytest.param([(0, Reading(None, 5)), (121, Reading(None, 5))], 0, 0, 0, id="a gap is not guessed"),
        pytest.param(
            [(0, Reading(50, 10)), (10, Reading(None, 10)), (20, Reading(90, 10)), (30, Reading(95, 10))],
            205,
            10,
            20,
            id="a counter that vanishes and comes back",
        ),
        pytest.param([(0, Reading(5, None)), (10, Reading(None, 70))], 0, 0, 0, id="nothing in common"),
        pytest.param(
            [(10, Reading(5, None)), (10, Reading(600, None)), (9, Reading(7, None)), (20, Reading(9, None))],
            4,
            10,
            0,
            id="one that is not later is passed over",
        ),
    ],
)
def test_what_a_series_makes(
    series: Series, millijoules: float, counter_seconds: int, power_seconds: int
) -> None:
    device = measured(series)
    assert (device.half_millijoules / 2, device.counter_seconds, device.power_seconds) == (
        millijoules,
        counter_seconds,
        power_seconds,
    )


def _sample(second: int, shown: Reading) -> Sample:
    counter = Energy(Fraction(shown.millijoules)) if shown.millijoules is not None else None
    power = Power(Fraction(shown.milliwatts, 1000)) if shown.milliwatts is not None else None
    return Sample(second, counter, power)
