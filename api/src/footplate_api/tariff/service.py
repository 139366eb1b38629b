"""Reader of the current price book and carbon intensities, which caches the latter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from footplate_api.db.database import Database, ReadSession
from footplate_api.models.tariff import CarbonSeries
from footplate_api.tariff import repository, tariff_rows
from footplate_api.usage import repository as usage
from footplate_ledger.account import Tariff
from footplate_ledger.carbon import IntensitySeries


class TariffReader:
    """Reader of the tariff; it caches carbon series, thousands of numbers, until one changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[Mapping[str, str], IntensitySeries] = {}, IntensitySeries()

    async def read(self) -> Tariff:
        """Return the current tariff; raises DatabaseUnavailable."""
        async with self._database.read() as session:
            rows = await repository.book(session)
            series = await self._series(session)
        return Tariff(await asyncio.to_thread(tariff_rows.book_of, rows), series)

    async def node_locations(self, profile: str) -> frozenset[tuple[str, str]]:
        """Return provider and region of a profile's running nodes; raises DatabaseUnavailable."""
        async with self._database.read() as session:
            found = await usage.running_nodes(session)
        return frozenset((provider, region) for name, _, provider, region, _ in found if name == profile)

    async def _series(self, session: ReadSession) -> IntensitySeries:
        versions = await repository.versions(session, CarbonSeries)
        known, series = self._known
        if known != versions:
            specs = await repository.specs(session, CarbonSeries)
            series = await asyncio.to_thread(tariff_rows.series_of, specs)
            self._known = versions, series
        return series
