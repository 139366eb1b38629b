"""Estimate of an hour's cost of a run, in dollars, energy and carbon, by the ledger's units and prices; pure.

A missing price or power is unknown, not zero. Only the carbon intensity is always known, if only as the
world's mean; the estimate has the rank of its source.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from footplate_api.serialization import tolerant_json
from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_ledger.account import Tariff
from footplate_ledger.carbon import GridLocation, IntensitySource, find_intensity
from footplate_ledger.conversion import build_power_profile, decimal_fraction
from footplate_ledger.energy import rated_energy
from footplate_ledger.prices import PriceBookEntry
from footplate_ledger.units import HOUR, Energy, HourlyRate, Money, Seconds
from footplate_ledger.usage import Sku

_DIGITS: Final = 6  # decimal places
_AN_HOUR: Final = Seconds(Fraction(HOUR))
Where = tuple[str, str]
"""Provider and region of a node."""


@dataclass(frozen=True)
class HourlyCost:
    """Cost of one hour of all nodes, spares included; None is unknown."""

    dollars: Decimal | None = None
    kilowatt_hours: Decimal | None = None  # at rated power, with cooling (PUE)
    carbon_kilograms: Decimal | None = None
    devices_only: bool | None = None  # whether the rest of the nodes is not in the energy
    carbon_rank: IntensitySource | None = None
    carbon_source: str | None = None


def node_count(spec: Mapping[str, Any]) -> int | None:
    """Return how many nodes a run with this `spec` holds, workers and spares; None without workers."""
    compute = tolerant_json.mapping(spec, "compute")
    workers = tolerant_json.get_int(compute, "nodes")
    return None if workers is None else workers + (tolerant_json.get_int(compute, "spares") or 0)


def estimate_hourly(
    name: str,
    spec: Mapping[str, Any],
    count: int | None,
    tariff: Tariff,
    places: Collection[Where],
    now: int,
) -> HourlyCost:
    """Return the cost of `count` nodes of the profile `name` with this `spec`, which has nodes in `places`.

    With several places it is unknown in which one a run will be: then the price is that of no region,
    and the intensity that of the profile's zone, or the world's.
    """
    try:
        profile = ComputeProfileSpec.from_any_release(spec)
    except ValueError:
        return HourlyCost()
    if count is None:
        return HourlyCost()
    provider, region = next(iter(places)) if len(places) == 1 else ("", "")
    rate = _rate(name, region, profile, tariff, now)
    dollars = None if rate is None else _plain((rate * _AN_HOUR * count).to_decimal(_DIGITS))
    site, gpu = build_power_profile(profile, provider, region), profile.gpu
    drawn = [(count, site.node_watts), (0 if gpu is None else gpu.count * count, site.device_watts)]
    parts = [
        rated_energy(number, _AN_HOUR, watts, site.power_usage_effectiveness)
        for number, watts in drawn
        if number and watts is not None
    ]
    if not parts:
        return HourlyCost(dollars)
    energy = sum(parts, Energy())
    place = GridLocation(site.grams_per_kilowatt_hour, site.carbon_zone, provider, region)
    found = find_intensity(place, tariff.series, now)
    return HourlyCost(
        dollars,
        _plain(energy.to_decimal(_DIGITS)),
        _plain((energy * found.intensity).to_decimal(_DIGITS)),
        site.node_watts is None,
        found.rank,
        found.source,
    )


def _rate(name: str, region: str, profile: ComputeProfileSpec, tariff: Tariff, now: int) -> HourlyRate | None:
    """Return the price in force; the profile's own price counts while the book has none for it."""
    price = profile.price
    capacity = Capacity.ON_DEMAND if price is None else price.capacity
    if price is not None and not _entered(name, tariff.book.entries):
        return HourlyRate(Fraction(round(decimal_fraction(price.dollars_per_node_hour) * Money.NANO)))
    return tariff.book.rate(Sku(name, capacity, region), now)


def _entered(name: str, entries: Collection[PriceBookEntry]) -> bool:
    return any(entry.sku.profile == name for entry in entries)


def _plain(value: Decimal) -> Decimal:
    """Return `value` without exponent and trailing zeros.

    >>> print(_plain(Decimal("24.600000")), _plain(Decimal("0.000000")), _plain(Decimal("100.000000")))
    24.6 0 100
    """
    return Decimal(f"{value:f}".rstrip("0").rstrip("."))
