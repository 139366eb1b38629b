"""Energy of devices, by the best method for each second; pure.

| method | of a device, for a part of time |
|---|---|
| counter | the difference of its energy counter, in millijoules |
| power | its power between two samples, by the trapezoid between them |
| rated | its rated power (TDP), where samples are too far apart, or there are none |
| unknown | nothing: neither a sample nor a rated power is known |

A counter begins at zero again when its driver is loaded anew: its value then has been consumed since.
Each total has each method's share of the devices' time, and whether it counts the rest of the
node or devices only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from footplate_ledger.units import Energy, Power, Seconds
from footplate_ledger.usage import PodAllocation

NO_ENERGY: Final = Energy()
NO_TIME: Final = Seconds()


class EnergyMethod(StrEnum):
    """Measuring method, best first."""

    COUNTER = "counter"
    POWER = "power"
    RATED = "rated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Consumption:
    """Energy by method, none that is zero; and device-seconds by method."""

    energies: Mapping[EnergyMethod, Energy] = field(default_factory=dict)
    seconds: dict[EnergyMethod, Seconds] = field(default_factory=dict)
    devices_only: bool = False  # the rest of the node is not in it

    @property
    def energy(self) -> Energy:
        """Energy by all methods together."""
        return sum(self.energies.values(), NO_ENERGY)

    def __add__(self, other: Consumption) -> Consumption:
        energies = {
            method: self.energies.get(method, NO_ENERGY) + other.energies.get(method, NO_ENERGY)
            for method in {*self.energies, *other.energies}
        }
        seconds = {
            method: self.seconds.get(method, NO_TIME) + other.seconds.get(method, NO_TIME)
            for method in {*self.seconds, *other.seconds}
        }
        return Consumption(energies, seconds, self.devices_only or other.devices_only)

    def share(self, method: EnergyMethod) -> Fraction:
        """Return the method's share of the devices' time; 0 of no time."""
        whole = sum((seconds.exact for seconds in self.seconds.values()), Fraction(0))
        return self.seconds.get(method, NO_TIME).exact / whole if whole else Fraction(0)


def pod_consumption(usage: PodAllocation, now: int) -> Consumption:
    """Return the consumption of a pod's devices until `now`: as measured, and by rated power for the rest.

    A sum may cover a little more than the pod's seconds, which are whole; it is not cut. Where it was
    measured by counter and by power it is one sum all the same, which the seconds of each split.
    """
    held = usage.span(now).seconds * usage.devices
    measured, device = usage.measured, usage.site.device_watts
    known = {EnergyMethod.COUNTER: measured.counter_seconds, EnergyMethod.POWER: measured.power_seconds}
    seconds = {method: time for method, time in known.items() if time.exact}
    uncovered = held
    for time in seconds.values():
        uncovered = uncovered - time
    energies = _told_apart(measured.millijoules, seconds) if measured.millijoules.exact else {}
    if uncovered.exact <= 0:
        return Consumption(energies, seconds)
    seconds[EnergyMethod.UNKNOWN if device is None else EnergyMethod.RATED] = uncovered
    if device is not None and device.exact:
        energies[EnergyMethod.RATED] = device * uncovered
    return Consumption(energies, seconds)


def _told_apart(measured: Energy, seconds: Mapping[EnergyMethod, Seconds]) -> dict[EnergyMethod, Energy]:
    """Split `measured` by the seconds of each method; without any seconds it is the counter's."""
    if len(seconds) < len((EnergyMethod.COUNTER, EnergyMethod.POWER)):
        return {next(iter(seconds), EnergyMethod.COUNTER): measured}
    whole = sum(time.exact for time in seconds.values())
    return {method: measured * (time.exact / whole) for method, time in seconds.items()}


def rated_energy(devices: int | Fraction, seconds: Seconds, watts: Power, effectiveness: Fraction) -> Energy:
    """Return the energy of devices at rated power, times PUE: devices x hours x watts x PUE."""
    return watts * seconds * devices * effectiveness
