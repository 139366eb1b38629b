"""The cluster's price book entries and carbon series, with which usage is priced.

They are watched. A watch delivers object by object, and nothing marks the last of its first list; a run whose
price is still on its way would appear unpriced. So before the first decision they are listed once, and until
then no watch event changes an amount.

Training waits for none of it: while they cannot be listed the tariff is unknown, counted amounts stand, and
the list is retried now and then. Kinds without watch events, which may have no objects, are listed again as
well; and, less often, all: a watch that was disconnected delivers the existing objects, and not the deleted
ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields
from footplate_contracts.names import API_VERSION
from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_ledger import conversion
from footplate_ledger.account import Tariff
from footplate_ledger.prices import FOREVER, PriceBook, PriceBookEntry
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import read

PRICE_ENTRY: Final = Kind(API_VERSION, "PriceEntry", "priceentries", namespaced=False)
CARBON_INTENSITY: Final = Kind(API_VERSION, "CarbonIntensity", "carbonintensities", namespaced=False)
KINDS: Final[Sequence[Kind]] = (PRICE_ENTRY, CARBON_INTENSITY)
ANSWER_SECONDS: Final = 2.0  # that a decision waits for the first list
FIRST_RETRY: Final = 2.0
LONGEST_RETRY: Final = 60.0
LIST_SECONDS: Final = 60.0  # between two lists of what no watch tells of
RELIST_SECONDS: Final = 3600.0  # and of what watches tell of
_Known = PriceBookEntry | CarbonIntensitySpec | None
_log = logging.getLogger(__name__)


class TariffCache:
    """Price entries and carbon series by name; unreadable ones are left out and logged.

    `now` is a clock in UTC.
    """

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now
        self._entries: dict[str, PriceBookEntry] = {}
        self._intensities: dict[str, CarbonIntensitySpec] = {}
        self._versions: dict[tuple[Kind, str], int] = {}  # of those that cannot be read, too
        self._gone: set[tuple[Kind, str]] = set()  # as the watch told before they were listed, or meanwhile
        self._watched: set[Kind] = set()  # of which a watch has told anything
        self._listed = False
        self._failures = 0
        self._retry = 0.0  # before that nothing is listed again
        self._listing = asyncio.Lock()
        self._current: Tariff | None = None
        self._found = FOREVER  # amounts from which second on are others by lists, which told nobody
        self._ends: dict[str, int] | None = None  # by profile: until when any entry that stands holds
        # By profile: when an entry was written, and from which second on it says anything.
        self._written: defaultdict[str, list[tuple[int, int]]] | None = None

    async def ensure_listed(self) -> None:
        """List all, unless that is done; may raise ClusterError."""
        async with self._listing:
            if not self._listed:
                await self._list(KINDS)
                self._listed = True

    async def get_tariff(self) -> Tariff | None:
        """Return the tariff as `get_listed_tariff` does.

        The list is tried first unless it has just failed.
        """
        if not self._listed and self._now().timestamp() >= self._retry:
            await self._try(self.ensure_listed, ANSWER_SECONDS)
        return self.get_listed_tariff()

    def get_listed_tariff(self) -> Tariff | None:
        """Return the current tariff; None until the lists have succeeded."""
        return self.current_tariff() if self._listed else None

    async def run_relists(self) -> None:
        """List forever what could not be listed, kinds without watch events, and now and then all."""
        time = asyncio.get_running_loop().time
        due = time() + RELIST_SECONDS
        while True:
            await asyncio.sleep(LIST_SECONDS)
            if self._listed and time() >= due:
                due = time() + RELIST_SECONDS
                await self._try(self.list_all)
            else:
                await self._try(self.relist_unwatched if self._listed else self.ensure_listed)

    async def relist_unwatched(self) -> None:
        """List the kinds without watch events again; may raise ClusterError."""
        async with self._listing:
            await self._list([kind for kind in KINDS if kind not in self._watched])

    async def list_all(self) -> None:
        """List all again; may raise ClusterError."""
        async with self._listing:
            await self._list(KINDS)

    def put(self, kind: Kind, body: Json) -> int | None:
        """Store a watched object; return the first second whose amounts may change, None without any.

        A change that a list found before any watch event, or in place of one, is returned with the next watch
        event; a watch delivers all objects whenever it begins anew.
        """
        self._watched.add(kind)
        return self._with_found(self.store(kind, body))

    def store(self, kind: Kind, body: Json) -> int | None:
        """Store an object's present version; return as `put`."""
        name, version = body["metadata"]["name"], int(body["metadata"].get("resourceVersion") or 0)
        if version <= self._versions.get((kind, name), -1):
            return None
        self._versions[kind, name] = version
        self._gone.discard((kind, name))
        before = self._known(kind, name)
        self._forget(kind, name)
        try:
            if kind == PRICE_ENTRY:
                spec = read(PriceEntrySpec, body.get("spec"))
                self._entries[name] = conversion.build_price_entry(
                    name, body["metadata"]["creationTimestamp"], spec
                )
            else:
                series = read(CarbonIntensitySpec, body.get("spec"))
                conversion.build_series({name: series})  # raises for a time that is none
                self._intensities[name] = series
        except (ValueError, KeyError, OverflowError) as error:
            _log.warning(
                "skipped, as it cannot be read", extra=log_fields(kind=kind.name, name=name, error=error)
            )
        return self._changed(before, self._known(kind, name))

    def drop(self, kind: Kind, body: Json) -> int | None:
        """Remove a deleted object; return as `put`."""
        name = body["metadata"]["name"]
        self._watched.add(kind)
        if not self._listed or self._listing.locked():
            self._gone.add((kind, name))
        return self._with_found(self._lose(kind, name))

    def current_tariff(self) -> Tariff:
        """Return the book and the series; the same object until something changes."""
        if self._current is None:
            book = PriceBook([self._entries[name] for name in sorted(self._entries)])
            self._current = Tariff(book, conversion.build_series(self._intensities))
        return self._current

    def list_entries(self, source: str) -> list[PriceBookEntry]:
        """Return the entries of the book that name this source."""
        return [entry for entry in self._entries.values() if entry.source == source]

    def list_priced_profiles(self, at: int) -> Collection[str] | None:
        """Return the profiles with a price at second `at` or later; None while the book is unknown."""
        if not self._listed:
            return None
        if self._ends is None:
            book = self.current_tariff().book
            self._ends = {}
            for entry in self._entries.values():
                if book.corrected_by(entry.id) is None:
                    profile = entry.sku.profile
                    self._ends[profile] = max(entry.effective_to, self._ends.get(profile, 0))
        return {profile for profile, end in self._ends.items() if at < end}

    def has_correction(self, profile: str, since: int, until: int) -> bool:
        """Return whether an entry written at second `since` or later concerns nodes before `until`."""
        if self._written is None:
            self._written = defaultdict(list)
            for entry in self._entries.values():
                self._written[entry.sku.profile].append((entry.created_at, self._begins(entry)))
        return any(since <= at and begins < until for at, begins in self._written.get(profile, ()))

    async def _list(self, kinds: Sequence[Kind]) -> None:
        """List and store these kinds; raises ClusterError."""
        for kind in kinds:
            before = {name: version for (known, name), version in self._versions.items() if known == kind}
            bodies = await self._cluster.find(kind, "")
            for body in bodies:
                if (kind, body["metadata"]["name"]) not in self._gone:
                    self._find(kind, self.store(kind, body))
            for name in before.keys() - {body["metadata"]["name"] for body in bodies}:
                if self._versions.get((kind, name)) == before[name]:  # no watch has told of it meanwhile
                    self._find(kind, self._lose(kind, name))
        self._gone.clear()

    def _find(self, kind: Kind, since: int | None) -> None:
        """Record that a list changed amounts from `since` on; None for a kind's first list."""
        if since is not None and kind in self._watched:
            self._found = min(self._found, since)

    def _with_found(self, since: int | None) -> int | None:
        found, self._found = self._found, FOREVER
        earliest = min(found, FOREVER if since is None else since)
        return None if earliest == FOREVER else earliest

    async def _try(self, listing: Callable[[], Awaitable[None]], seconds: float | None = None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await listing()
            self._failures = 0
        except (ClusterError, TimeoutError) as error:
            now = self._now().timestamp()
            if now < self._retry:
                return  # others waited for the same list
            self._failures += 1
            self._retry = now + backoff_seconds(self._failures, first=FIRST_RETRY, longest=LONGEST_RETRY)
            level = logging.WARNING if self._failures == 1 else logging.DEBUG
            said = f"{type(error).__name__}: {error}"
            _log.log(level, "prices and carbon intensities cannot be listed", extra=log_fields(error=said))

    def _lose(self, kind: Kind, name: str) -> int | None:
        self._versions.pop((kind, name), None)
        before = self._known(kind, name)
        self._forget(kind, name)
        return self._changed(before, None)

    def _begins(self, entry: PriceBookEntry) -> int:
        """Return the first second that this entry changes."""
        superseded = self._entries.get(entry.supersedes or "")
        return min(entry.effective_from, superseded.effective_from if superseded else FOREVER)

    def _known(self, kind: Kind, name: str) -> _Known:
        return self._entries.get(name) if kind == PRICE_ENTRY else self._intensities.get(name)

    def _forget(self, kind: Kind, name: str) -> None:
        if kind == PRICE_ENTRY:
            self._entries.pop(name, None)
        else:
            self._intensities.pop(name, None)

    def _changed(self, before: _Known, after: _Known) -> int | None:
        if before == after:
            return None
        self._current = self._written = self._ends = None
        if not self._listed:
            return None
        series = [known for known in (before, after) if isinstance(known, CarbonIntensitySpec)]
        if series:
            return _first_difference(*series)
        return min(self._begins(known) for known in (before, after) if isinstance(known, PriceBookEntry))


def _first_difference(known: CarbonIntensitySpec, other: CarbonIntensitySpec | None = None) -> int | None:
    """Return the first second at which the two series differ; without `other`, the first of all."""
    points = [
        {
            (spec.zone, conversion.parse_time(at.effective_from), at.grams_per_kilowatt_hour)
            for at in spec.points
        }
        for spec in (known, other)
        if spec is not None
    ]
    different = points[0] ^ points[1] if other is not None else points[0]
    return min((second for _, second, _ in different), default=None)
