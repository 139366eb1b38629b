"""What one device consumed, out of the whole series of what it showed: the method as the documents say it.

An agent adds up sample by sample and keeps none of them; its sums have to be these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from footplate_elastic.agent.energy import LONGEST_GAP
from footplate_ledger.energy import Consumption, EnergyMethod
from footplate_ledger.intervals import Interval
from footplate_ledger.units import Energy, Power, Seconds


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """What a device showed in one second; a counter or a power that it has not is None."""

    second: int
    counter: Energy | None = None
    power: Power | None = None


def of_device(samples: Iterable[Sample], span: Interval, rated: Power | None) -> Consumption:
    """What one device consumed in `span`; the same for any order and repetition of `samples`.

    Between two samples it consumed evenly by its counter, along a line by its power: parts of a span
    are together the span.
    """
    known = sorted(set(samples), key=lambda sample: sample.second)
    if not known:
        return _rated(span.seconds, rated)
    found = _rated(span.within(Interval(span.start, known[0].second)).seconds, rated)
    for first, last in pairwise(known):
        part = Interval(first.second, last.second).within(span)
        if part:
            found = found + _between(first, last, part, rated)
    return found + _rated(span.within(Interval(known[-1].second, span.end)).seconds, rated)


def _between(first: Sample, last: Sample, part: Interval, rated: Power | None) -> Consumption:
    """What was consumed in `part` of the time from `first` to `last`."""
    length = last.second - first.second
    if first.counter is not None and last.counter is not None:
        since = last.counter - first.counter if last.counter >= first.counter else last.counter
        return _known(EnergyMethod.COUNTER, since * (part.seconds.exact / length), part.seconds)
    if length <= LONGEST_GAP and first.power is not None and last.power is not None:
        middle = Fraction(part.start + part.end, 2) - first.second
        mean = first.power + (last.power - first.power) * (middle / length)
        return _known(EnergyMethod.POWER, mean * part.seconds, part.seconds)
    return _rated(part.seconds, rated)


def _rated(seconds: Seconds, rated: Power | None) -> Consumption:
    if not seconds.exact:
        return Consumption()
    if rated is None:
        return Consumption(seconds={EnergyMethod.UNKNOWN: seconds})
    return _known(EnergyMethod.RATED, rated * seconds, seconds)


def _known(method: EnergyMethod, energy: Energy, seconds: Seconds) -> Consumption:
    return Consumption({method: energy} if energy.exact else {}, {method: seconds})
