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

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from footplate_ledger.units import Energy, Power, Seconds
from footplate_ledger.usage import PodUsage

NO_ENERGY: Final = Energy()
NO_TIME: Final = Seconds()


class Method(StrEnum):
    """How well it is known, best first."""

    COUNTER = "counter"
    POWER = "power"
    RATED = "rated"
    UNKNOWN = "unknown"


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
