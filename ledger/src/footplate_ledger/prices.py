"""Price book: entries that are never changed, and the prices in force at any time; pure.

An entry holds from `effective_from` to `effective_to`, or until a later one begins. A correction names
the entry of its profile that it supersedes, which from then on never was. An entry of no region holds in
each region in which none of its own is in force.

A month that is over is closed: its bill rests on the entries that were there when it ended.
Later ones change the amounts through adjustments with their own date (`ledger.adjustments`), never the month.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Final

from footplate_ledger.units import HourlyRate
from footplate_ledger.usage import Sku

FOREVER: Final = 2**62
_NEVER: Final = FOREVER + 1


@dataclass(frozen=True, slots=True)
class PriceBookEntry:
    """Entry of the book; times in seconds since 1970."""

    id: str
    sku: Sku
    rate: HourlyRate
    effective_from: int
    effective_to: int = FOREVER
    created_at: int = 0
    supersedes: str | None = None
    source: str = ""
    created_by: str = ""


@dataclass(frozen=True)
class PriceBook:
    """Entries in any order; each id once."""

    entries: Sequence[PriceBookEntry]
    _by_sku: dict[Sku, list[PriceBookEntry]] = field(init=False, repr=False, compare=False)
    _written: dict[Sku, list[PriceBookEntry]] = field(init=False, repr=False, compare=False)
    _corrections: dict[str, PriceBookEntry] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        superseded = corrections(self.entries)
        by_sku: dict[Sku, list[PriceBookEntry]] = {}
        written: dict[Sku, list[PriceBookEntry]] = {}
        # Of two that begin in the same second the one that was written later holds.
        for entry in sorted(
            self.entries, key=lambda entry: (entry.effective_from, entry.created_at, entry.id)
        ):
            written.setdefault(entry.sku, []).append(entry)
            if entry.id not in superseded:
                by_sku.setdefault(entry.sku, []).append(entry)
        object.__setattr__(self, "_by_sku", by_sku)
        object.__setattr__(self, "_written", written)
        object.__setattr__(self, "_corrections", superseded)

    def rate(self, sku: Sku, moment: int) -> HourlyRate | None:
        """Return the hourly price of `sku` in the second `moment`; None: no entry, which is not zero."""
        entry = self.entry(sku, moment)
        return None if entry is None else entry.rate

    def entry(self, sku: Sku, moment: int) -> PriceBookEntry | None:
        """Return the entry with the price of `sku` in the second `moment`; None if there is none."""
        for wanted in matching_skus(sku):
            entries = self._by_sku.get(wanted, [])
            at = bisect_right(entries, moment, key=lambda entry: entry.effective_from)
            for entry in reversed(entries[:at]):
                if moment < entry.effective_to:
                    return entry
        return None

    def corrected_by(self, name: str) -> PriceBookEntry | None:
        """Return the entry that superseded the entry of this name; None: it stands."""
        return self._corrections.get(name)

    def rate_history(self, sku: Sku, moment: int, closed: int) -> list[tuple[int, HourlyRate | None]]:
        """Return the price in the second `moment` by the book of the second `closed`, and its later values.

        Each has the second from which on the book had it; the first is `closed` itself.
        """
        found = list(self._candidates(sku, moment, closed))
        ended = [self._ended(entry) for entry in found]
        changes = {entry.created_at for entry in found} | set(ended)
        waiting = sorted(range(len(found)), key=lambda place: -found[place].created_at)
        best: list[int] = []  # a heap of the places of those that were written
        said: list[tuple[int, HourlyRate | None]] = []
        for at in [closed, *sorted(change for change in changes if closed < change < FOREVER)]:
            while waiting and found[waiting[-1]].created_at <= at:
                heappush(best, waiting.pop())
            while best and ended[best[0]] <= at:
                heappop(best)
            rate = found[best[0]].rate if best else None
            if not said or rate != said[-1][1]:
                said.append((at, rate))
        return said

    def _candidates(self, sku: Sku, moment: int, closed: int) -> Iterator[PriceBookEntry]:
        """Yield the entries that may price `sku` in a second, by whatever state since `closed`.

        The first of those that stand is in force. The last was there at `closed` and stands for good, if any.
        """
        for wanted in matching_skus(sku):
            entries = self._written.get(wanted, [])
            following = bisect_right(entries, moment, key=lambda entry: entry.effective_from)
            for at in range(following - 1, -1, -1):
                entry = entries[at]
                if moment < entry.effective_to:
                    yield entry
                    if entry.created_at <= closed and entry.id not in self._corrections:
                        return

    def _ended(self, entry: PriceBookEntry) -> int:
        by = self.corrected_by(entry.id)
        return _NEVER if by is None else by.created_at


def corrections(entries: Iterable[PriceBookEntry]) -> dict[str, PriceBookEntry]:
    """Map each superseded id to the first entry that superseded it.

    Kubernetes cannot compare an object with another one, so it accepts an entry that supersedes an entry of
    another profile; that ends nothing. The order of creation does not matter: a cluster that is restored from
    a backup makes them in any order.

    >>> h100, a100 = Sku("h100"), Sku("a100")
    >>> wrong = PriceBookEntry("e1", h100, HourlyRate.dollars_per_hour(10), 0, created_at=1)
    >>> right = PriceBookEntry("e2", h100, HourlyRate.dollars_per_hour(12), 0, created_at=2, supersedes="e1")
    >>> other = PriceBookEntry("e3", a100, HourlyRate.dollars_per_hour(3), 0, created_at=3, supersedes="e2")
    >>> {id: by.id for id, by in corrections([wrong, right, other]).items()}
    {'e1': 'e2'}
    """
    known = {entry.id: entry for entry in entries}
    found: dict[str, PriceBookEntry] = {}
    later = (entry for entry in known.values() if entry.supersedes)
    for entry in sorted(later, key=lambda entry: (entry.created_at, entry.id)):
        wrong = known.get(entry.supersedes or "")
        if wrong is not None and wrong.sku.profile == entry.sku.profile:
            found.setdefault(wrong.id, entry)
    return found


def matching_skus(sku: Sku) -> list[Sku]:
    """Return the SKUs whose entries price `sku`, the nearest first."""
    return [sku, replace(sku, region="")] if sku.region else [sku]
