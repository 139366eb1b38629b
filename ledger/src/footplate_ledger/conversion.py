"""Conversion between custom resources and the ledger's types; pure.

Times of objects are RFC 3339; those of the ledger are whole seconds since 1970. Numbers of objects are read
as they are written: 0.1 is a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final, TypeVar

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
from footplate_ledger.units import Energy, HourlyRate, Money, Power, Seconds
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
        raise ValueError(f"{text!r} names no time zone; write it as 2026-11-28T12:00:00Z")
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


def pods_of(record: UsageRecordSpec) -> list[PodAllocation]:
    """Return the pods of one record; ValueError for an invalid time."""
    if record.owner is None:
        return []
    owner = Owner(**record.owner.model_dump())
    return [_pod(uid, entry, owner) for uid, entry in record.pods.items()]


def nodes_of(record: UsageRecordSpec) -> list[NodeLifetime]:
    """Return the Nodes of one record; ValueError for an invalid time."""
    return [
        NodeLifetime(
            uid,
            entry.name,
            _goods(entry),
            parse_time(entry.start),
            _evidence(entry),
            *_capacity(entry),
            entry.provider,
        )
        for uid, entry in record.nodes.items()
    ]


def build_pod_entry(pod: PodAllocation) -> PodEntry:
    """Build the record entry of a pod."""
    measured = pod.measured
    used = EnergyUsed(
        millijoules=round(measured.millijoules.exact),
        counter_seconds=round(measured.counter_seconds.exact),
        power_seconds=round(measured.power_seconds.exact),
    )
    return PodEntry(
        **_held(pod, pod.site.provider),
        name=pod.name,
        role=pod.role,
        attempt=pod.attempt,
        node=pod.node,
        node_devices=pod.node_devices,
        rating=_rating(pod.site),
        energy=None if measured == MeasuredEnergy() else used,
    )


def build_node_entry(node: NodeLifetime) -> NodeEntry:
    """Build the record entry of a Node."""
    return NodeEntry(**_held(node, node.provider), name=node.name)


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
    used = entry.energy or EnergyUsed()
    return PodAllocation(
        uid,
        owner,
        entry.role,
        entry.attempt,
        entry.node,
        _goods(entry),
        parse_time(entry.start),
        _evidence(entry),
        *_capacity(entry),
        site=_site(entry),
        measured=MeasuredEnergy(
            Energy(Fraction(used.millijoules)),
            Seconds(Fraction(used.counter_seconds)),
            Seconds(Fraction(used.power_seconds)),
        ),
        node_devices=entry.node_devices,
        name=entry.name,
    )


def _held(used: PodAllocation | NodeLifetime, provider: str) -> dict[str, object]:
    running = used.end.known == RUNNING
    return {
        "profile": used.goods.profile,
        "capacity": used.goods.capacity,
        "region": used.goods.region,
        "provider": provider,
        "devices": used.devices,
        "millicores": round(used.cpu * _MILLI),
        "start": format_time(used.start),
        "end": None if running else format_time(used.end.until),
        "seen": format_time(used.end.until) if running else None,
        "estimated": used.end.estimated,
    }


def _goods(entry: UsageInterval) -> Sku:
    return Sku(entry.profile, entry.capacity, entry.region)


def _capacity(entry: UsageInterval) -> tuple[int, Fraction]:
    return entry.devices, Fraction(entry.millicores, _MILLI)


def _evidence(entry: UsageInterval) -> EndTime:
    if entry.end is None:
        return EndTime(RUNNING, parse_time(entry.seen or entry.start))
    return EndTime(LAST_SEEN if entry.estimated else TOLD, parse_time(entry.end))


def _site(entry: PodEntry) -> PowerProfile:
    rating = entry.rating or PowerRating()
    return PowerProfile(
        device_watts=None if rating.device_watts is None else Power(decimal_fraction(rating.device_watts)),
        node_watts=None if rating.node_watts is None else Power(decimal_fraction(rating.node_watts)),
        power_usage_effectiveness=decimal_fraction(rating.power_usage_effectiveness),
        grams_per_kilowatt_hour=None
        if rating.grams_per_kilowatt_hour is None
        else decimal_fraction(rating.grams_per_kilowatt_hour),
        carbon_zone=rating.carbon_zone,
        provider=entry.provider,
        region=entry.region,
    )


def _rating(site: PowerProfile) -> PowerRating:
    return PowerRating(
        device_watts=None if site.device_watts is None else float(site.device_watts.exact),
        node_watts=None if site.node_watts is None else float(site.node_watts.exact),
        power_usage_effectiveness=float(site.power_usage_effectiveness),
        grams_per_kilowatt_hour=None
        if site.grams_per_kilowatt_hour is None
        else float(site.grams_per_kilowatt_hour),
        carbon_zone=site.carbon_zone,
    )


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
        goods=Sku(spec.profile, spec.capacity, spec.region),
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
