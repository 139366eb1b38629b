"""Best-fit decreasing: whole samples in few sequences, the same ones on every machine.

A conversation is not cut at a window's edge, so samples share a sequence only where all of them fit. The
longest comes first, of equally long ones the first of the data, and each goes into the bin where it leaves
the least space: of bins with the same space, into the one that has had it longest.

Only integers decide, so each rank computes the same bins alone. Samples are grouped by length and bins by
free space: of millions of samples there are only as many lengths as a sequence has positions, and all samples
of one length are placed at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from footplate_trainer.data.order import Int64s


@dataclass(frozen=True)
class Bins:
    """The bin and the first position of each sample."""

    size: int  # places of a bin
    lengths: Int64s  # [n]
    bin: Int64s  # [n]
    start: Int64s  # [n]: its first place in the bin

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self._firsts) - 1

    @property
    def used(self) -> float:
        """The share of all positions that hold a token."""
        return float(self.lengths.sum() / (len(self) * self.size)) if len(self) else 0.0

    @property
    def most(self) -> int:
        """The number of samples in the fullest bin."""
        return int(np.diff(self._firsts).max(initial=0))

    def samples(self, number: int) -> Int64s:
        """Return the samples of a bin, in the order of their positions: int64 [k]."""
        return self._order[self._firsts[number] : self._firsts[number + 1]]

    @cached_property
    def _order(self) -> Int64s:
        return np.lexsort((self.start, self.bin)).astype(np.int64)

    @cached_property
    def _firsts(self) -> Int64s:
        counts = np.bincount(self.bin) if len(self.bin) else np.empty(0, dtype=np.int64)
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


def best_fit(lengths: Int64s, size: int) -> Bins:
    """Pack samples of `lengths`, int64 [n], each 1 … size, into bins of `size` positions."""
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= size:
        raise ValueError(f"lengths are {lengths.min()} … {lengths.max()}, but a bin holds 1 … {size} tokens")
    places = _OpenBins(size)
    found, start = np.empty_like(lengths), np.empty_like(lengths)
    order = np.argsort(-lengths, kind="stable")
    kinds = np.flatnonzero(np.diff(lengths[order], prepend=size + 1))
    for samples in np.split(order, kinds[1:]) if len(order) else []:
        length, done = int(lengths[samples[0]]), 0
        while done < len(samples):
            bins, firsts = places.take(length, len(samples) - done)
            found[samples[done : done + len(bins)]] = bins
            start[samples[done : done + len(bins)]] = firsts
            done += len(bins)
    return Bins(size, lengths, found, start)


class _OpenBins:
    """Bins that are not full, by their free space."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rooms: list[int] = []  # ascending: those that a bin has
        self._bins: dict[int, Int64s] = {}
        self._count = 0

    def take(self, length: int, wanted: int) -> tuple[Int64s, Int64s]:
        """Place 1 … `wanted` samples of `length`; return their bins and first positions: int64 [k] twice."""
        place = bisect_left(self._rooms, length)
        room = self._rooms[place] if place < len(self._rooms) else self._size
        holds = room // length
        bins = self._opened(room, length, wanted) if place == len(self._rooms) else self._bins[room]
        # What has just got a sample is the tightest fit for the next one, as long as there is room.
        full = min(len(bins), wanted // holds)
        rest = wanted - full * holds if full < len(bins) else 0
        touched = full + (rest > 0)
        found = np.repeat(bins[:touched], holds)[: full * holds + rest]
        first = self._size - room + length * np.tile(np.arange(holds, dtype=np.int64), touched)
        self._set(room, bins[touched:])
        self._add(room - holds * length, bins[:full])
        if rest:
            self._add(room - rest * length, bins[full:touched])
        return found, first[: len(found)]

    def _opened(self, room: int, length: int, wanted: int) -> Int64s:
        needed = -(-wanted // (room // length))
        self._count += needed
        return np.arange(self._count - needed, self._count, dtype=np.int64)

    def _add(self, room: int, bins: Int64s) -> None:
        if room and len(bins):
            before = self._bins.get(room)
            self._set(room, bins if before is None else np.concatenate([before, bins]))

    def _set(self, room: int, bins: Int64s) -> None:
        known = room in self._bins
        if len(bins):
            self._bins[room] = bins
            if not known:
                insort(self._rooms, room)
        elif known:
            del self._bins[room]
            self._rooms.pop(bisect_left(self._rooms, room))
