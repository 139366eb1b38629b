"""What one device has consumed, sample by sample: the same as of the whole series at once."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import strategies as some

from footplate_elastic.agent.devices import LONGEST_GAP, DeviceEnergy, EnergyReading
from footplate_ledger.energy import EnergyMethod
from footplate_ledger.intervals import Interval
from footplate_ledger.units import Energy, Power, Seconds
from tests.support.nvml import Sample, of_device
from tests.support.properties import given

Series = list[tuple[int, EnergyReading]]  # (second, what was shown)
A_GAP = some.integers(1, 3 * LONGEST_GAP) | some.sampled_from([LONGEST_GAP, LONGEST_GAP + 1])
A_READING = some.builds(
    EnergyReading, some.none() | some.integers(0, 2**40), some.none() | some.integers(0, 2_000_000)
)


def measured(series: Series) -> DeviceEnergy:
    device = DeviceEnergy()
    for second, shown in series:
        device.add_reading(second, shown)
    return device


@given(some.integers(0, 2**31), some.lists(some.tuples(A_GAP, A_READING), min_size=1))
def test_it_is_what_the_ledger_makes_of_the_whole_series(
    start: int, steps: list[tuple[int, EnergyReading]]
) -> None:
    series, second = [], start
    for gap, shown in steps:
        second += gap
        series.append((second, shown))
    whole = of_device([_sample(*entry) for entry in series], Interval(series[0][0], second), rated=None)

    device = measured(series)

    assert Fraction(device.half_millijoules, 2) == whole.energy.exact
    assert device.counter_seconds == whole.seconds.get(EnergyMethod.COUNTER, Seconds()).exact
    assert device.power_seconds == whole.seconds.get(EnergyMethod.POWER, Seconds()).exact


@given(some.lists(some.tuples(some.integers(-5, 200), A_READING)))
def test_no_sum_ever_falls_whatever_is_shown_and_whenever(steps: list[tuple[int, EnergyReading]]) -> None:
    device, second, before = DeviceEnergy(), 0, (0, 0, 0)
    for step, shown in steps:
        second += step
        device.add_reading(second, shown)
        sums = device.half_millijoules, device.counter_seconds, device.power_seconds
        assert all(now >= then for now, then in zip(sums, before, strict=True))
        before = sums


@pytest.mark.parametrize(
    ("series", "millijoules", "counter_seconds", "power_seconds"),
    [
        pytest.param([(7, EnergyReading(500, 100))], 0, 0, 0, id="one sample tells nothing"),
        pytest.param(
            [(0, EnergyReading(500, None)), (10, EnergyReading(3500, None))], 3000, 10, 0, id="counter"
        ),
        pytest.param(
            [(0, EnergyReading(0, 300)), (10, EnergyReading(8, 100))], 8, 10, 0, id="the counter goes first"
        ),
        pytest.param(
            [(0, EnergyReading(500, 9)), (10, EnergyReading(70, 9))], 70, 10, 0, id="it began again"
        ),
        pytest.param(
            [(0, EnergyReading(0, None)), (900, EnergyReading(9, None))], 9, 900, 0, id="counters have no gap"
        ),
        pytest.param(
            [(0, EnergyReading(None, 100)), (10, EnergyReading(None, 301))], 2005, 0, 10, id="power, a line"
        ),
        pytest.param(
            [(0, EnergyReading(None, 1)), (1, EnergyReading(None, 2))], 1.5, 0, 1, id="half a millijoule"
        ),
        pytest.param(
            [(0, EnergyReading(None, 5)), (121, EnergyReading(None, 5))], 0, 0, 0, id="a gap is not guessed"
        ),
        pytest.param(
            [
                (0, EnergyReading(50, 10)),
                (10, EnergyReading(None, 10)),
                (20, EnergyReading(90, 10)),
                (30, EnergyReading(95, 10)),
            ],
            205,
            10,
            20,
            id="a counter that vanishes and comes back",
        ),
        pytest.param(
            [(0, EnergyReading(5, None)), (10, EnergyReading(None, 70))], 0, 0, 0, id="nothing in common"
        ),
        pytest.param(
            [
                (10, EnergyReading(5, None)),
                (10, EnergyReading(600, None)),
                (9, EnergyReading(7, None)),
                (20, EnergyReading(9, None)),
            ],
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


def _sample(second: int, shown: EnergyReading) -> Sample:
    counter = Energy(Fraction(shown.millijoules)) if shown.millijoules is not None else None
    power = Power(Fraction(shown.milliwatts, 1000)) if shown.milliwatts is not None else None
    return Sample(second, counter, power)
