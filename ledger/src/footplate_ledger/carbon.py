"""Emissions of consumed energy, by the location where it was consumed; pure but for its table.

Location-based, as the Greenhouse Gas Protocol has it: kilowatt-hours times the emissions of a kilowatt-hour
there. The first source with a value counts:

| rank | grams a kilowatt-hour |
|---|---|
| profile | the profile's own value |
| series | the series that administrators loaded for the zone, from a moment on; hourly if they have it |
| zone | the yearly mean of the country (ISO 3166 alpha-3), of the cloud's region, or of its country |
| world | 475, the world's mean of 2018 by the IEA |

The table (`data/carbon_intensities.json`) is renewed by tools/carbon_intensities.py
and names source, year and licence.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, Final

from footplate_ledger.intervals import Interval
from footplate_ledger.units import Intensity

CLOUDS: Final = ("aws", "azure", "gcp")


def zone_key(zone: str) -> str:
    """Return the key by which zones are compared: without regard to case.

    >>> zone_key("fra"), zone_key("FRA")
    ('FRA', 'FRA')
    """
    return zone.upper()


class IntensitySource(StrEnum):
    """Sources of an intensity, best first."""

    PROFILE = "profile"
    SERIES = "series"
    ZONE = "zone"
    WORLD = "world"


@dataclass(frozen=True, slots=True)
class SourcedIntensity:
    """An intensity with its source."""

    intensity: Intensity
    rank: IntensitySource
    source: str


@dataclass(frozen=True, slots=True)
class GridLocation:
    """Location of a node, by its profile."""

    grams: Fraction | None = None  # a kilowatt-hour, as stated
    zone: str = ""
    provider: str = ""
    region: str = ""


@dataclass(frozen=True)
class _Zone:
    """Points of a zone in the order of time."""

    seconds: Sequence[int]
    grams: Sequence[Fraction]

    @classmethod
    def of(cls, points: Iterable[tuple[int, Fraction]]) -> _Zone:
        ordered = sorted(points, key=lambda point: point[0])
        return cls([second for second, _ in ordered], [grams for _, grams in ordered])

    def place(self, second: int) -> int:
        """Return the index of the newest point that is not later; -1 before the first."""
        return bisect_right(self.seconds, second) - 1


@dataclass(frozen=True)
class IntensitySeries:
    """Emissions of a kilowatt-hour in a zone from a second on; each zone and second once, in any order.

    Zones are compared by zone_key().
    """

    points: Mapping[str, Sequence[tuple[int, Fraction]]] = field(default_factory=dict)
    _zones: Mapping[str, _Zone] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        zones = {zone_key(zone): _Zone.of(points) for zone, points in self.points.items() if points}
        object.__setattr__(self, "_zones", zones)

    def at(self, zone: str, second: int) -> Fraction | None:
        """Return the newest intensity that is not later; None before the first."""
        known = self._zones.get(zone_key(zone))
        place = -1 if known is None else known.place(second)
        return None if known is None or place < 0 else known.grams[place]

    def edges(self, zone: str, span: Interval) -> Sequence[int]:
        """Return the seconds within `span` in which the intensity changes."""
        known = self._zones.get(zone_key(zone))
        if known is None:
            return ()
        return known.seconds[bisect_right(known.seconds, span.start) : bisect_left(known.seconds, span.end)]


@cache
def load_intensity_table() -> Mapping[str, Any]:
    """Load the yearly means by country and by a cloud's region, with their sources."""
    found: Mapping[str, Any] = json.loads(
        (files("footplate_ledger") / "data" / "carbon_intensities.json").read_text("utf-8")
    )
    return found


def find_intensity(place: GridLocation, series: IntensitySeries, second: int) -> SourcedIntensity:
    """Return the best known intensity of `place` in a second."""
    if place.grams is not None:
        return SourcedIntensity(
            Intensity(place.grams), IntensitySource.PROFILE, "the profile's gramsPerKilowattHour"
        )
    loaded = series.at(place.zone, second) if place.zone else None
    if loaded is not None:
        return SourcedIntensity(Intensity(loaded), IntensitySource.SERIES, f"the series of zone {place.zone}")
    return find_yearly_intensity(place)


def find_yearly_intensity(place: GridLocation) -> SourcedIntensity:
    """Return the yearly mean of the zone, else of the cloud's region, else of its country, else the world's.

    The result's source names a zone or region without a mean, such as a misspelt one.
    """
    country = _mean_of_country(zone_key(place.zone))
    if country is not None:
        return country
    instead = f"; no data for zone {place.zone!r}" if place.zone else ""
    if place.provider in CLOUDS:
        of_region = _mean_of_region(place.provider, place.region)
        if of_region is not None:
            return replace(of_region, source=of_region.source + instead)
        instead += f"; no data for {place.provider} region {place.region!r}" if place.region else ""
    world = load_intensity_table()["world"]
    source = f"world {world['year']}: {world['source']}{instead}"
    return SourcedIntensity(Intensity(Fraction(world["grams"])), IntensitySource.WORLD, source)


def _mean_of_country(code: str) -> SourcedIntensity | None:
    countries = load_intensity_table()["countries"]
    country = countries["zones"].get(code)
    if country is None:
        return None
    source = f"{country['name']} {country['year']}: {countries['source']}"
    return SourcedIntensity(Intensity(Fraction(country["grams"])), IntensitySource.ZONE, source)


def _mean_of_region(provider: str, region: str) -> SourcedIntensity | None:
    """Return the intensity of the region, else of its country; the table has regions in lower case."""
    cloud, key = load_intensity_table()[provider], region.lower()
    if key in cloud["zones"]:
        source = f"{provider} {region}: {cloud['source']}"
        return SourcedIntensity(Intensity(Fraction(cloud["zones"][key])), IntensitySource.ZONE, source)
    country = _mean_of_country(cloud["countries"].get(key, ""))
    if country is None:
        return None
    return replace(country, source=f"the country of {provider} {region}, {country.source}")


def split_by_intensity(
    place: GridLocation, series: IntensitySeries, span: Interval
) -> Iterator[tuple[Interval, SourcedIntensity]]:
    """Split `span` into parts with one intensity each."""
    edges = () if place.grams is not None or not place.zone else series.edges(place.zone, span)
    return ((part, find_intensity(place, series, part.start)) for part in span.cut(edges))
