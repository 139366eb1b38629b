"""What devices consumed, by the best measure that there is of each second; pure.

| method | of a device, for a part of time |
|---|---|
| counter | the difference of its energy counter, in millijoules |
| power | its power between two samples, by the trapezoid between them |
| rated | its rated power (TDP), where samples are too far apart, or there are none |
| unknown | nothing: neither a sample nor a rated power is known |

A counter begins at zero again when its driver is loaded anew: what it shows then has been consumed since.
Each total says which method gave which share of the devices' time, and whether it counts the rest of the
node or devices only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Final

from footplate_ledger.time import Span
from footplate_ledger.units import Energy, Power, Seconds
from footplate_ledger.usage import PodUsage

LONGEST_GAP: Final = 120  # seconds between two samples of power that are joined by a line
NO_ENERGY: Final = Energy()
NO_TIME: Final = Seconds()


class Method(StrEnum):
    """How well it is known, best first."""

    COUNTER = "counter"
    POWER = "power"
    RATED = "rated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """What a device showed in one second; a counter or a power that it has not is None."""

    second: int
    counter: Energy | None = None
    power: Power | None = None


@dataclass(frozen=True)
class Consumption:
    """Energy, and for how many seconds of a device it is known by which method."""

    energy: Energy = NO_ENERGY
    seconds: dict[Method, Seconds] = field(default_factory=dict)
    devices_only: bool = False  # the rest of the node is not in it

    def __add__(self, other: Consumption) -> Consumption:
        methods = {*self.seconds, *other.seconds}
        seconds = {
            method: self.seconds.get(method, NO_TIME) + other.seconds.get(method, NO_TIME)
            for method in methods
        }
        return Consumption(self.energy + other.energy, seconds, self.devices_only or other.devices_only)

    def times(self, factor: int | Fraction) -> Consumption:
        """With a factor on the energy alone, such as the PUE of a data center."""
        return Consumption(self.energy * factor, self.seconds, self.devices_only)

    def part(self, fraction: Fraction) -> Consumption:
        """That of so much of its time, if it was consumed evenly."""
        seconds = {method: time * fraction for method, time in self.seconds.items()}
        return Consumption(self.energy * fraction, seconds, self.devices_only)

    def share(self, method: Method) -> Fraction:
        """Of the devices' time; none of no time."""
        whole = sum((seconds.exact for seconds in self.seconds.values()), Fraction(0))
        return self.seconds.get(method, NO_TIME).exact / whole if whole else Fraction(0)


def of_device(samples: Iterable[Sample], span: Span, rated: Power | None) -> Consumption:
    """What one device consumed in `span`; the same for any order and repetition of `samples`.

    Between two samples it consumed evenly by its counter, along a line by its power: parts of a span
    are together the span.
    """
    known = sorted(set(samples), key=lambda sample: sample.second)
    if not known:
        return _rated(span.seconds, rated)
    found = _rated(span.within(Span(span.start, known[0].second)).seconds, rated)
    for first, last in pairwise(known):
        part = Span(first.second, last.second).within(span)
        if part:
            found = found + _between(first, last, part, rated)
    return found + _rated(span.within(Span(known[-1].second, span.end)).seconds, rated)


def _between(first: Sample, last: Sample, part: Span, rated: Power | None) -> Consumption:
    """What was consumed in `part` of the time from `first` to `last`."""
    length = last.second - first.second
    if first.counter is not None and last.counter is not None:
        since = last.counter - first.counter if last.counter >= first.counter else last.counter
        return Consumption(since * (part.seconds.exact / length), {Method.COUNTER: part.seconds})
    if length <= LONGEST_GAP and first.power is not None and last.power is not None:
        middle = Fraction(part.start + part.end, 2) - first.second
        mean = first.power + (last.power - first.power) * (middle / length)
        return Consumption(mean * part.seconds, {Method.POWER: part.seconds})
    return _rated(part.seconds, rated)


def _rated(seconds: Seconds, rated: Power | None) -> Consumption:
    if not seconds.exact:
        return Consumption()
    if rated is None:
        return Consumption(seconds={Method.UNKNOWN: seconds})
    return Consumption(rated * seconds, {Method.RATED: seconds})


def of_pod(usage: PodUsage, now: int) -> Consumption:
    """What the devices of a pod consumed until `now`: as measured, and by their rated power for the rest.

    A sum may cover a little more than the pod's seconds, which are whole; it is not cut.
    """
    held = usage.span(now).seconds * usage.devices
    measured, device = usage.measured, usage.site.device
    known = {Method.COUNTER: measured.counter, Method.POWER: measured.power}
    seconds = {method: time for method, time in known.items() if time.exact}
    uncovered = held
    for time in seconds.values():
        uncovered = uncovered - time
    if uncovered.exact <= 0:
        return Consumption(measured.energy, seconds)
    seconds[Method.UNKNOWN if device is None else Method.RATED] = uncovered
    energy = NO_ENERGY if device is None else device * uncovered
    return Consumption(measured.energy + energy if measured.energy.exact else energy, seconds)


def rated(devices: int | Fraction, seconds: Seconds, watts: Power, effectiveness: Fraction) -> Energy:
    """What so many devices consume at this power, times PUE: devices x hours x watts x PUE."""
    return watts * seconds * devices * effectiveness
