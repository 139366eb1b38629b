"""What consumed energy emitted, by the place where it was consumed; pure but for its table.

Location-based, as the Greenhouse Gas Protocol has it: kilowatt-hours times what a kilowatt-hour emits there.
The best that is known counts:

| rank | grams a kilowatt-hour |
|---|---|
| profile | what the profile states |
| series | what administrators loaded for the zone, from a moment on; hourly if they have it |
| zone | the yearly mean of the country (ISO 3166 alpha-3), or of the cloud's region |
| world | 475, the world's mean of 2018 by the IEA |

The table (`data/carbon_intensities.json`) is renewed by tools/carbon_intensities.py
and names source, year and licence.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, Final

from footplate_ledger.time import Span
from footplate_ledger.units import Carbon, Energy, Intensity

CLOUDS: Final = ("aws", "azure", "gcp")


class Rank(StrEnum):
    """Where an intensity is from, best first."""

    PROFILE = "profile"
    SERIES = "series"
    ZONE = "zone"
    WORLD = "world"


@dataclass(frozen=True, slots=True)
class Known:
    """An intensity, and where it is from."""

    intensity: Intensity
    rank: Rank
    source: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node is: what its profile says of it."""

    grams: Fraction | None = None  # a kilowatt-hour, as stated
    zone: str = ""
    provider: str = ""
    region: str = ""


@dataclass(frozen=True)
class Series:
    """What a kilowatt-hour emits in a zone from a second on; each second once, in any order."""

    points: Mapping[str, Sequence[tuple[int, Fraction]]] = field(default_factory=dict)
    _ordered: dict[str, list[tuple[int, Fraction]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = {zone: sorted(points, key=itemgetter(0)) for zone, points in self.points.items()}
        object.__setattr__(self, "_ordered", ordered)

    def at(self, zone: str, second: int) -> Fraction | None:
        """The newest that is not later; None before the first."""
        ordered = self._ordered.get(zone, [])
        place = bisect_right(ordered, second, key=itemgetter(0))
        return ordered[place - 1][1] if place else None

    def edges(self, zone: str) -> Iterator[int]:
        """The seconds in which it changes."""
        return (second for second, _ in self.points.get(zone, ()))


@cache
def table() -> Mapping[str, Any]:
    """Yearly means by country and by a cloud's region, with their sources."""
    found: Mapping[str, Any] = json.loads(
        (files("footplate_ledger") / "data" / "carbon_intensities.json").read_text("utf-8")
    )
    return found


def known(place: Place, series: Series, second: int) -> Known:
    """The best that is known of `place` in a second."""
    if place.grams is not None:
        return Known(Intensity(place.grams), Rank.PROFILE, "the profile's gramsPerKilowattHour")
    loaded = series.at(place.zone, second) if place.zone else None
    if loaded is not None:
        return Known(Intensity(loaded), Rank.SERIES, f"the series of zone {place.zone}")
    return yearly(place)


def yearly(place: Place) -> Known:
    """The yearly mean of the zone, else of the cloud's region, else the world's."""
    whole = table()
    country = whole["countries"]["zones"].get(place.zone.upper())
    if country is not None:
        source = f"{country['name']} {country['year']}: {whole['countries']['source']}"
        return Known(Intensity(Fraction(country["grams"])), Rank.ZONE, source)
    if place.provider in CLOUDS:
        cloud = whole[place.provider]
        grams = cloud["zones"].get(place.region)
        if grams is not None:
            source = f"{place.provider} {place.region}: {cloud['source']}"
            return Known(Intensity(Fraction(grams)), Rank.ZONE, source)
    world = whole["world"]
    return Known(Intensity(Fraction(world["grams"])), Rank.WORLD, f"world {world['year']}: {world['source']}")


def parts(place: Place, series: Series, span: Span) -> Iterator[tuple[Span, Known]]:
    """The parts of `span` in each of which one intensity holds."""
    edges = () if place.grams is not None or not place.zone else series.edges(place.zone)
    return ((part, known(place, series, part.start)) for part in span.cut(edges))


def emitted(energy: Energy, place: Place, series: Series, span: Span) -> Mapping[Rank, Carbon]:
    """What `energy`, consumed evenly over `span`, emitted; by where the intensity is from."""
    found: dict[Rank, Carbon] = {}
    whole = span.seconds.exact
    for part, intensity in parts(place, series, span):
        carbon = energy * (part.seconds.exact / whole) * intensity.intensity
        found[intensity.rank] = found.get(intensity.rank, Carbon()) + carbon
    return found
