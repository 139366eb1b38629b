"""The price book and the carbon intensities as they are now, put together once for all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from footplate_api.database import Database, ReadSession
from footplate_api.models.tariff import CarbonSeries
from footplate_api.tariff import record, repository
from footplate_api.usage import repository as usage
from footplate_ledger.account import Tariff
from footplate_ledger.carbon import Series
from footplate_ledger.prices import Book


class Tariffs:
    """Reads the tariff; a series of hours is thousands of numbers, and is read again when it has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: tuple[Mapping[str, str], Series] = {}, Series()

    async def now(self) -> Tariff:
        """All that is known; raises DatabaseUnavailable."""
        async with self._database.read() as session:
            rows = await repository.book(session)
            series = await self._series(session)
        return Tariff(await asyncio.to_thread(_book, rows), series)

    async def places(self, profile: str) -> frozenset[tuple[str, str]]:
        """Provider and region of the nodes of a profile that are there; raises DatabaseUnavailable."""
        async with self._database.read() as session:
            found = await usage.running_nodes(session)
        return frozenset((provider, region) for name, _, provider, region, _ in found if name == profile)

    async def _series(self, session: ReadSession) -> Series:
        versions = await repository.versions(session, CarbonSeries)
        known, series = self._known
        if known != versions:
            specs = await repository.specs(session, CarbonSeries)
            series = await asyncio.to_thread(record.series_of, specs)
            self._known = versions, series
        return series


def _book(rows: Iterable[Any]) -> Book:
    return Book(record.entries_of(rows))
