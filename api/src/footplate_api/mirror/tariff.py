"""Reflectors of the price book, carbon intensities and profiles.

A PriceEntry that is deleted from the cluster stays in the book: what was billed by it was billed. Intensities
and profiles are as in the cluster.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from footplate_api.db.database import PAGE_SECONDS
from footplate_api.instruments import CARBON, PRICES, PROFILES
from footplate_api.kubernetes.client import Manifest, Resource
from footplate_api.mirror.objects import ObjectReflector
from footplate_api.models.tariff import CarbonSeries, ComputeProfileRow
from footplate_api.tariff import repository, tariff_rows


@dataclass
class PriceReflector(ObjectReflector):
    """Reflector of PriceEntries."""

    kind: ClassVar[str] = PRICES
    resource: ClassVar[Resource] = Resource.PRICES

    async def store(self, manifests: Sequence[Manifest]) -> None:
        rows, _ = await self.parse(tariff_rows.price_row, manifests)
        if rows:
            async with self.database.write(PAGE_SECONDS) as session:
                await repository.add_prices(session, rows)

    async def remove(self, manifests: Iterable[Manifest]) -> None:
        await self.store(list(manifests))  # nobody may have heard of it while it stood


@dataclass
class LatestStateReflector(ObjectReflector):
    """Reflector of a kind whose rows equal the cluster's current objects."""

    model: ClassVar[repository.Shown]

    @staticmethod
    @abstractmethod
    def row(manifest: Manifest) -> dict[str, Any]:
        """Return the row of an object; raises ValueError where it cannot be read."""

    async def store(self, manifests: Sequence[Manifest]) -> None:
        rows, _ = await self.parse(self.row, manifests)
        if rows:
            async with self.database.write(PAGE_SECONDS) as session:
                await repository.store_objects(session, self.model, rows)

    async def remove(self, manifests: Iterable[Manifest]) -> None:
        await self._hide([manifest["metadata"]["name"] for manifest in manifests])

    async def prune(self, names: Collection[str]) -> None:
        async with self.database.read(PAGE_SECONDS) as session:
            known = await repository.versions(session, self.model)
        if gone := sorted(known.keys() - set(names)):
            await self._hide(gone)

    async def _hide(self, names: Sequence[str]) -> None:
        async with self.database.write(PAGE_SECONDS) as session:
            await repository.delete_objects(session, self.model, names)


@dataclass
class CarbonReflector(LatestStateReflector):
    """Reflector of CarbonIntensities."""

    kind: ClassVar[str] = CARBON
    resource: ClassVar[Resource] = Resource.CARBON
    model: ClassVar[repository.Shown] = CarbonSeries
    row = staticmethod(tariff_rows.carbon_row)


@dataclass
class ProfileReflector(LatestStateReflector):
    """Reflector of ComputeProfiles."""

    kind: ClassVar[str] = PROFILES
    resource: ClassVar[Resource] = Resource.PROFILES
    model: ClassVar[repository.Shown] = ComputeProfileRow
    row = staticmethod(tariff_rows.profile_row)
