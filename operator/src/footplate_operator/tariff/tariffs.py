"""What usage is reckoned with: the entries of the price book and the carbon series that the cluster has.

They are watched. What a watch tells comes object by object, and nothing says which is the last of its first
list; a run of which a price is still on its way would be told that nobody knows it. So before the first
decision they are listed once, and until then nothing that the watch tells is news to anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from footplate_contracts.logs import fields
from footplate_contracts.names import API_VERSION
from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_ledger import records
from footplate_ledger.account import Tariff
from footplate_ledger.prices import Book, Entry
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import read

PRICE_ENTRY: Final = Kind(API_VERSION, "PriceEntry", "priceentries", namespaced=False)
CARBON_INTENSITY: Final = Kind(API_VERSION, "CarbonIntensity", "carbonintensities", namespaced=False)
KINDS: Final[Sequence[Kind]] = (PRICE_ENTRY, CARBON_INTENSITY)
_log = logging.getLogger(__name__)


class Tariffs:
    """Each object by its name; one that cannot be read is left out, and the log names it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._entries: dict[str, Entry] = {}
        self._intensities: dict[str, CarbonIntensitySpec] = {}
        self._versions: dict[tuple[Kind, str], int] = {}  # of those that cannot be read, too
        self._gone: set[tuple[Kind, str]] = set()  # as the watch told before they were listed
        self._listed = False
        self._listing = asyncio.Lock()
        self._current: Tariff | None = None

    async def look(self) -> None:
        """List them, unless that is done; may raise ClusterError."""
        async with self._listing:
            if self._listed:
                return
            for kind in KINDS:
                for body in await self._cluster.find(kind, ""):
                    if (kind, body["metadata"]["name"]) not in self._gone:
                        self.put(kind, body)
            self._listed = True
            self._gone.clear()

    def put(self, kind: Kind, body: Json) -> bool:
        """An object as it is now; whether anybody's amounts may be others since."""
        name, version = body["metadata"]["name"], int(body["metadata"].get("resourceVersion") or 0)
        if version <= self._versions.get((kind, name), -1):
            return False
        self._versions[kind, name] = version
        self._gone.discard((kind, name))
        before = self._known(kind, name)
        self._forget(kind, name)
        try:
            if kind == PRICE_ENTRY:
                spec = read(PriceEntrySpec, body.get("spec"))
                self._entries[name] = records.price(name, body["metadata"]["creationTimestamp"], spec)
            else:
                series = read(CarbonIntensitySpec, body.get("spec"))
                records.series({name: series})  # raises for a time that is none
                self._intensities[name] = series
        except (ValueError, KeyError, OverflowError) as error:
            _log.warning(
                "left out, as it cannot be read", extra=fields(kind=kind.name, name=name, error=error)
            )
        return self._changed(self._known(kind, name) != before)

    def drop(self, kind: Kind, body: Json) -> bool:
        """An object is gone; whether anybody's amounts may be others since."""
        name = body["metadata"]["name"]
        self._versions.pop((kind, name), None)
        if not self._listed:
            self._gone.add((kind, name))
        before = self._known(kind, name)
        self._forget(kind, name)
        return self._changed(before is not None)

    def current(self) -> Tariff:
        """The book and the series; the same object until something changes."""
        if self._current is None:
            book = Book([self._entries[name] for name in sorted(self._entries)])
            self._current = Tariff(book, records.series(self._intensities))
        return self._current

    def written(self, source: str) -> list[Entry]:
        """The entries of the book that name this source."""
        return [entry for entry in self._entries.values() if entry.source == source]

    def _known(self, kind: Kind, name: str) -> Entry | CarbonIntensitySpec | None:
        return self._entries.get(name) if kind == PRICE_ENTRY else self._intensities.get(name)

    def _forget(self, kind: Kind, name: str) -> None:
        if kind == PRICE_ENTRY:
            self._entries.pop(name, None)
        else:
            self._intensities.pop(name, None)

    def _changed(self, changed: bool) -> bool:
        if changed:
            self._current = None
        return changed and self._listed
