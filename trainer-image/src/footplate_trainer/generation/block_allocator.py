"""Allocation of cache blocks to the positions of sequences.

A block holds the keys of as many tokens as its size. Keys follow from a token
and all before it, so a full block is identified by its tokens and the block before
it, and a sequence that begins as another one did references that one's blocks
instead of having its keys computed again. Full blocks are never written to. A partial
block may have several owners, too (siblings continue from one prompt): a sequence that
writes into it copies it first, unless it is the only owner.

A full block without owners keeps its keys until its memory is needed; the block that
was released first is reused first. All of it is arithmetic: no
keys are here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_ROOT: Final = 0  # what the first block of a sequence stands behind


@dataclass
class BlockTable:
    """The blocks of one sequence, in the order of its positions."""

    blocks: list[int] = field(default_factory=list)
    shared: int = 0  # so many tokens had keys when the table was opened
    full: int = 0  # so many blocks are full and known by their tokens
    beginning: int = _ROOT  # the beginning that these are


class BlockAllocator:
    """All blocks of a cache: `total` of them, of `size` positions."""

    def __init__(self, total: int, size: int) -> None:
        assert total > 0 and size > 0
        self.total, self.size = total, size
        self._unused = list(range(total - 1, -1, -1))
        self._owners = [0] * total
        # A beginning has a number that is never given again, as a block may come to hold something else.
        self._beginnings = 0
        self._known: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}  # -> block, number
        self._names: dict[int, tuple[int, tuple[int, ...]]] = {}  # of blocks that are known
        self._given_up: OrderedDict[int, None] = OrderedDict()

    @property
    def free_count(self) -> int:
        """Number of blocks that can be allocated."""
        return len(self._unused) + len(self._given_up)

    def needed(self, tokens: int) -> int:
        """Return how many blocks `tokens` tokens need."""
        return -(-tokens // self.size)

    def allocate(self, tokens: Sequence[int], spare: int = 0) -> BlockTable | None:
        """Allocate a table for `tokens`, sharing known blocks of their beginning.

        At least one of them is left to be computed, as its logits predict the next
        token. None if fewer than `spare` blocks would be left.
        """
        known, behind = self._beginning(tokens)
        revived = sum(block in self._given_up for block in known)
        if self.free_count - revived - (self.needed(len(tokens)) - len(known)) < spare:
            return None
        for block in known:
            self._own(block)
        table = BlockTable(list(known), len(known) * self.size, len(known), behind)
        table.blocks += (self._take() for _ in range(self.needed(len(tokens)) - len(known)))
        return table

    def extend(self, table: BlockTable, length: int) -> list[tuple[int, int]] | None:
        """Make the last of `length` positions writable by `table` alone; it has blocks of all others.

        Returns the blocks to copy, (from, to), or None, with nothing changed,
        if no block is free.
        """
        last = (length - 1) // self.size
        if last < len(table.blocks) and self._owners[table.blocks[last]] == 1:
            return []
        if not self.free_count:
            return None
        taken = self._take()
        if last == len(table.blocks):
            table.blocks.append(taken)
            return []
        before, table.blocks[last] = table.blocks[last], taken
        self._disown(before)
        return [(before, taken)]

    def mark_computed(self, table: BlockTable, tokens: Sequence[int], count: int) -> None:
        """Register full blocks of the first `count` of `tokens`, whose keys exist before any read of them."""
        while (end := (table.full + 1) * self.size) <= count:
            block = table.blocks[table.full]
            name = (table.beginning, tuple(tokens[end - self.size : end]))
            if name not in self._known:
                self._beginnings += 1
                self._known[name] = block, self._beginnings
                self._names[block] = name
            table.beginning = self._known[name][1]
            table.full += 1

    def fork(self, table: BlockTable) -> BlockTable:
        """Return another table of the same blocks."""
        for block in table.blocks:
            self._own(block)
        return BlockTable(list(table.blocks), table.shared, table.full, table.beginning)

    def release(self, table: BlockTable) -> None:
        """Release the blocks of a sequence that has ended or is preempted."""
        for block in reversed(table.blocks):  # what stands behind others goes before them
            self._disown(block)
        table.blocks.clear()

    def _beginning(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Return the known blocks of the first of `tokens`, and the number of that beginning."""
        found, behind = [], _ROOT
        for end in range(self.size, len(tokens), self.size):
            known = self._known.get((behind, tuple(tokens[end - self.size : end])))
            if known is None:
                break
            block, behind = known
            found.append(block)
        return found, behind

    def _take(self) -> int:
        if self._unused:
            block = self._unused.pop()
        else:
            block, _ = self._given_up.popitem(last=False)
            del self._known[self._names.pop(block)]
        self._owners[block] = 1
        return block

    def _own(self, block: int) -> None:
        self._given_up.pop(block, None)
        self._owners[block] += 1

    def _disown(self, block: int) -> None:
        self._owners[block] -= 1
        if self._owners[block] == 0:
            if block in self._names:
                self._given_up[block] = None
            else:
                self._unused.append(block)
