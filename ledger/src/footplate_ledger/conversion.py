"""Conversion between custom resources and the ledger's types; pure.

Times of objects are RFC 3339; those of the ledger are whole seconds since 1970. Numbers of objects are read
as they are written: 0.1 is a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final, TypeVar

from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_contracts.v1alpha1.types import MOST_WHOLE
from footplate_contracts.v1alpha1.usagerecord import (
    EnergyUsed,
    PowerRating,
    UsageInterval,
    UsageOwner,
    UsageRecordSpec,
)
from footplate_contracts.v1alpha1.usagerecord import NodeUsage as NodeEntry
from footplate_contracts.v1alpha1.usagerecord import PodUsage as PodEntry
from footplate_ledger.carbon import IntensitySeries, zone_key
from footplate_ledger.intervals import unix_second
from footplate_ledger.prices import FOREVER, PriceBookEntry
from footplate_ledger.units import Amount, HourlyRate, Money, Power
from footplate_ledger.usage import (
    LAST_SEEN,
    RUNNING,
    TOLD,
    EndTime,
    MeasuredEnergy,
    NodeLifetime,
    Owner,
    PodAllocation,
    PowerProfile,
    Sku,
)
from footplate_ledger.usage_json import read_fields

_MILLI: Final = 1000
_MOST_CPU: Final = Fraction(MOST_WHOLE, _MILLI)
Used = TypeVar("Used", PodAllocation, NodeLifetime)


def parse_time(text: str) -> int:
    """Parse an RFC 3339 time to its second; ValueError for anything else.

    >>> parse_time("1970-01-01T00:01:00.9Z")
    60
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as 2026-11-28T12:00:00Z")
    return unix_second(found)


def format_time(moment: int) -> str:
    """Format a second as Kubernetes does; ValueError for one after the year 9999.

    >>> format_time(60), format_time(-62135596800)
    ('1970-01-01T00:01:00Z', '0001-01-01T00:00:00Z')
    """
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def decimal_fraction(number: float) -> Fraction:
    """Convert to the decimal number that a person wrote, and not the binary one that is nearest to it.

    >>> decimal_fraction(0.1) == Fraction(1, 10)
    True
    """
    return Fraction(str(number))


# -- usage --------------------------------------------------------------------------------
# Fields of a record's entry and of the ledger's usage that have the same name are the same.


def pods_of(record: UsageRecordSpec) -> list[PodAllocation]:
    """Return the pods of one record; ValueError for an invalid time."""
    if record.owner is None:
        return []
    owner = Owner(**record.owner.model_dump())
    return [_pod(uid, entry, owner) for uid, entry in record.pods.items()]


def nodes_of(record: UsageRecordSpec) -> list[NodeLifetime]:
    """Return the Nodes of one record; ValueError for an invalid time."""
    return [NodeLifetime(**_common(NodeLifetime, uid, entry)) for uid, entry in record.nodes.items()]


def build_pod_entry(pod: PodAllocation) -> PodEntry:
    """Build the record entry of a pod."""
    used = {name: round(getattr(pod.measured, name).exact) for name in EnergyUsed.model_fields}
    return PodEntry(
        **_entry(PodEntry, pod, pod.site.provider),
        rating=PowerRating(**{name: _plain(getattr(pod.site, name)) for name in PowerRating.model_fields}),
        energy=None if pod.measured == MeasuredEnergy() else EnergyUsed(**used),
    )


def build_node_entry(node: NodeLifetime) -> NodeEntry:
    """Build the record entry of a Node."""
    return NodeEntry(**_entry(NodeEntry, node, node.provider))


def clamp_to_record(used: Used) -> Used:
    """Cap devices and CPU at the most that a record can hold."""
    if used.devices <= MOST_WHOLE and used.cpu <= _MOST_CPU:
        return used
    return replace(used, devices=min(used.devices, MOST_WHOLE), cpu=min(used.cpu, _MOST_CPU))


def owner_of(owner: Owner) -> UsageOwner:
    """Build the record entry of an owner."""
    return UsageOwner(kind=owner.kind, namespace=owner.namespace, name=owner.name, uid=owner.uid)


def build_power_profile(profile: ComputeProfileSpec, provider: str, region: str) -> PowerProfile:
    """Return a profile's power of its nodes, with the location of a node."""
    energy, gpu = profile.energy, profile.gpu
    return PowerProfile(
        device_watts=None if gpu is None or not gpu.tdp_watts else Power(decimal_fraction(gpu.tdp_watts)),
        node_watts=None
        if energy is None or energy.node_watts is None
        else Power(decimal_fraction(energy.node_watts)),
        power_usage_effectiveness=decimal_fraction(1 if energy is None else energy.power_usage_effectiveness),
        grams_per_kilowatt_hour=None
        if energy is None or energy.grams_per_kilowatt_hour is None
        else decimal_fraction(energy.grams_per_kilowatt_hour),
        carbon_zone="" if energy is None else energy.carbon_zone,
        provider=provider,
        region=region,
    )


def _pod(uid: str, entry: PodEntry, owner: Owner) -> PodAllocation:
    rating = {} if entry.rating is None else entry.rating.model_dump(exclude_none=True)
    site = {name: str(value) if type(value) is float else value for name, value in rating.items()}
    return PodAllocation(
        **_common(PodAllocation, uid, entry),
        owner=owner,
        site=read_fields(PowerProfile, {**site, "provider": entry.provider, "region": entry.region}),
        measured=read_fields(MeasuredEnergy, {} if entry.energy is None else entry.energy.model_dump()),
    )


def _common(kind: type[PodAllocation | NodeLifetime], uid: str, entry: UsageInterval) -> dict[str, Any]:
    """Return the fields that pods and nodes have alike, and those of `kind` that `entry` has by name."""
    sku = {name: getattr(entry, name) for name in Sku.__slots__}
    return {name: getattr(entry, name) for name in kind.__slots__ if name in type(entry).model_fields} | {
        "uid": uid,
        "sku": Sku(**sku),
        "start": parse_time(entry.start),
        "end": _evidence(entry),
        "cpu": Fraction(entry.millicores, _MILLI),
    }


def _entry(kind: type[UsageInterval], used: PodAllocation | NodeLifetime, provider: str) -> dict[str, Any]:
    """Return the fields of an entry of `kind`, but for those of `_pod`."""
    running = used.end.known == RUNNING
    named = {name: getattr(used, name) for name in kind.model_fields if hasattr(used, name)}
    sku = {name: getattr(used.sku, name) for name in Sku.__slots__}
    return {
        **named,
        **sku,
        "provider": provider,
        "millicores": round(used.cpu * _MILLI),
        "start": format_time(used.start),
        "end": None if running else format_time(used.end.until),
        "seen": format_time(used.end.until) if running else None,
        "estimated": used.end.estimated,
    }


def _evidence(entry: UsageInterval) -> EndTime:
    if entry.end is None:
        return EndTime(RUNNING, parse_time(entry.seen or entry.start))
    return EndTime(LAST_SEEN if entry.estimated else TOLD, parse_time(entry.end))


def _plain(value: Amount | Fraction | str | None) -> float | str | None:
    if isinstance(value, Amount):
        return float(value.exact)
    return float(value) if isinstance(value, Fraction) else value


# -- prices and intensities ----------------------------------------------------------------


def build_price_entry(name: str, created: str, spec: PriceEntrySpec) -> PriceBookEntry:
    """Build an entry of the book; `created` is the creation time of the Kubernetes object.

    ValueError for an invalid time, and for one after the year 9999.
    """
    for told in (created, spec.effective_from, spec.effective_to):
        if told is not None:
            format_time(parse_time(told))
    return PriceBookEntry(
        id=name,
        sku=Sku(spec.profile, spec.capacity, spec.region),
        rate=HourlyRate(Fraction(round(decimal_fraction(spec.dollars_per_node_hour) * Money.NANO))),
        effective_from=parse_time(spec.effective_from),
        effective_to=FOREVER if spec.effective_to is None else parse_time(spec.effective_to),
        created_at=parse_time(created),
        supersedes=spec.supersedes or None,
        source=spec.source,
        created_by=spec.created_by,
    )


def build_series(specs: Mapping[str, CarbonIntensitySpec]) -> IntensitySeries:
    """Build the series of CarbonIntensity objects, by name; for the same second the last by name wins."""
    found: dict[str, dict[int, Fraction]] = {}
    for _, spec in sorted(specs.items()):
        points = found.setdefault(zone_key(spec.zone), {})
        points.update(
            (parse_time(at.effective_from), decimal_fraction(at.grams_per_kilowatt_hour))
            for at in spec.points
        )
    return IntensitySeries({zone: sorted(points.items()) for zone, points in found.items()})
