"""What an hour of a run costs, in dollars, energy and carbon, as its profile has it; pure.

What a profile does not say is unknown, and not nothing. Numbers are decimal: a profile's are read as
they are written there, multiplied exactly, and rounded to a millionth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from footplate_api import lenient
from footplate_contracts.v1alpha1.computeprofile import Energy

_MILLIONTH: Final = Decimal("0.000001")
_USUAL: Final = Decimal(str(Energy().power_usage_effectiveness))


@dataclass(frozen=True)
class Hourly:
    """Per hour of all nodes, spares included; None is unknown."""

    dollars: Decimal | None = None
    kilowatt_hours: Decimal | None = None  # of the devices at their design power, times the data centre's PUE
    carbon_kilograms: Decimal | None = None


def nodes(spec: Mapping[str, Any]) -> int | None:
    """The nodes that a run with this `spec` holds: those of workers and of spares."""
    compute = lenient.mapping(spec, "compute")
    workers = lenient.whole(compute, "nodes")
    return None if workers is None else workers + (lenient.whole(compute, "spares") or 0)


def hourly(profile: Mapping[str, Any], count: int | None) -> Hourly:
    """Of `count` nodes of a profile with this `spec`."""
    if count is None:
        return Hourly()
    held = Decimal(count)
    dollars = _decimal(lenient.mapping(profile, "price"), "dollarsPerNodeHour")
    gpu, energy = lenient.mapping(profile, "gpu"), lenient.mapping(profile, "energy")
    watts, devices = _decimal(gpu, "tdpWatts"), _decimal(gpu, "count")
    effectiveness = _decimal(energy, "powerUsageEffectiveness") or _USUAL
    power = None if watts is None or devices is None else watts * devices * held * effectiveness / 1000
    grams = _decimal(energy, "gramsPerKilowattHour")
    return Hourly(
        None if dollars is None else _rounded(dollars * held),
        None if power is None else _rounded(power),
        None if power is None or grams is None else _rounded(power * grams / 1000),
    )


def _decimal(parent: Mapping[str, Any], key: str) -> Decimal | None:
    value = lenient.number(parent, key)
    return None if value is None else Decimal(str(parent[key]))


def _rounded(value: Decimal) -> Decimal:
    """
    >>> print(_rounded(Decimal("24.60000")), _rounded(Decimal("0.0000004")))
    24.6 0
    """
    return Decimal(f"{value.quantize(_MILLIONTH):f}".rstrip("0").rstrip("."))
