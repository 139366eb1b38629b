"""Prices, power and carbon intensities of each profile's nodes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from footplate_api.db.database import ReadSession
from footplate_api.errors import ProfileNotFound
from footplate_api.models.tariff import ComputeProfileRow
from footplate_api.tariff import prices, repository, tariff_rows
from footplate_api.tariff.schemas import CarbonItem, NodesItem, PriceItem, ProfileItem, ProfileList
from footplate_api.usage import repository as usage
from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_ledger.account import Tariff
from footplate_ledger.carbon import GridLocation, find_intensity
from footplate_ledger.conversion import build_power_profile

Nodes = Sequence[tuple[str, str, str, str, int]]
"""(profile, capacity, provider, region, how many) of nodes that are there."""


async def list_profiles(session: ReadSession, tariff: Tariff, now: int) -> ProfileList:
    """Return all profiles."""
    specs = await repository.specs(session, ComputeProfileRow)
    book = await repository.book(session)
    nodes = await usage.running_nodes(session)
    return await asyncio.to_thread(_list, specs, book, nodes, tariff, now)


async def get_profile(session: ReadSession, name: str, tariff: Tariff, now: int) -> ProfileItem:
    """Return one profile; raises ProfileNotFound."""
    specs = await repository.specs(session, ComputeProfileRow, [name])
    if name not in specs:
        raise ProfileNotFound(f"No ComputeProfile {name!r} was seen.")
    book = await repository.book(session, name)
    nodes = await usage.running_nodes(session)
    return (await asyncio.to_thread(_list, specs, book, nodes, tariff, now)).items[0]


def _list(
    specs: Mapping[str, Any], rows: Sequence[Any], nodes: Nodes, tariff: Tariff, now: int
) -> ProfileList:
    book = tariff_rows.book_of(rows)
    in_force = prices.in_force(book, now)
    shown: dict[str, list[PriceItem]] = defaultdict(list)
    for price in prices.list_items(rows, book, in_force):
        shown[price.profile].append(price)
    return ProfileList(
        items=[_shown(name, spec, shown[name], nodes, tariff, now) for name, spec in specs.items()]
    )


def _shown(
    name: str,
    spec: Any,
    in_force: list[PriceItem],
    nodes: Nodes,
    tariff: Tariff,
    now: int,
) -> ProfileItem:
    profile = ComputeProfileSpec.from_json(spec)
    own = [row for row in nodes if row[0] == name]
    site, gpu = build_power_profile(profile, "", ""), profile.gpu
    stated = site.grams_per_kilowatt_hour, site.carbon_zone
    places = sorted({(provider, region) for _, _, provider, region, _ in own}) or [("", "")]
    return ProfileItem(
        name=name,
        product=None if gpu is None else gpu.product,
        devices=0 if gpu is None else gpu.count,
        device_watts=None if site.device_watts is None else float(site.device_watts.exact),
        node_watts=None if site.node_watts is None else float(site.node_watts.exact),
        power_usage_effectiveness=float(site.power_usage_effectiveness),
        prices=in_force,
        carbon=[_carbon(GridLocation(*stated, *place), tariff, now) for place in places],
        nodes=[
            NodesItem(capacity=Capacity(capacity), provider=provider, region=region, count=count)
            for _, capacity, provider, region, count in own
        ],
    )


def _carbon(place: GridLocation, tariff: Tariff, now: int) -> CarbonItem:
    found = find_intensity(place, tariff.series, now)
    return CarbonItem(
        provider=place.provider,
        region=place.region,
        grams_per_kilowatt_hour=float(found.intensity.exact),
        rank=found.rank,
        source=found.source,
    )
