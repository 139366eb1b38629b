"""Which block holds which places of which sequence.

A block holds the keys of as many tokens as it has places. Keys follow from a token
and all before it, so a full block is known by its tokens and the block before
it, and a sequence that begins as another one did names that one's blocks
instead of having its keys computed again. Nobody writes into a full block. One that is
not full may have several owners, too (siblings go on from one prompt): whoever
writes into it takes a copy first, unless nobody else is left.

A full block that nobody names any more keeps its keys until its room is needed; of
these the one that was given up first goes first. All of it is arithmetic: no
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
    """The blocks of one sequence, in the order of its places."""

    blocks: list[int] = field(default_factory=list)
    shared: int = 0  # so many tokens had keys when the table was opened
    full: int = 0  # so many blocks are full and known by their tokens
    beginning: int = _ROOT  # the beginning that these are


class Blocks:
    """All blocks of a cache: `total` of them, of `size` places."""

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
    def free(self) -> int:
        """How many blocks can be had."""
        return len(self._unused) + len(self._given_up)

    def needed(self, tokens: int) -> int:
        """How many blocks so many tokens take."""
        return -(-tokens // self.size)

    def open(self, tokens: Sequence[int], spare: int = 0) -> BlockTable | None:
        """A table with room for `tokens`, which names what is known of their beginning.

        At least one of them is left to be computed, as somebody wants to know what
        comes next. None where fewer than `spare` blocks would be left.
        """
        known, behind = self._beginning(tokens)
        revived = sum(block in self._given_up for block in known)
        if self.free - revived - (self.needed(len(tokens)) - len(known)) < spare:
            return None
        for block in known:
            self._own(block)
        table = BlockTable(list(known), len(known) * self.size, len(known), behind)
        table.blocks += (self._take() for _ in range(self.needed(len(tokens)) - len(known)))
        return table

    def extend(self, table: BlockTable, length: int) -> list[tuple[int, int]] | None:
        """Give the place behind `length` - 1 others room that nobody else reads; the table has all of those.

        Returns what has to be copied, (from, to), or None, with nothing changed,
        where no block is free.
        """
        last = (length - 1) // self.size
        if last < len(table.blocks) and self._owners[table.blocks[last]] == 1:
            return []
        if not self.free:
            return None
        taken = self._take()
        if last == len(table.blocks):
            table.blocks.append(taken)
            return []
        before, table.blocks[last] = table.blocks[last], taken
        self._disown(before)
        return [(before, taken)]

    def computed(self, table: BlockTable, tokens: Sequence[int], count: int) -> None:
        """The first `count` of `tokens`, its sequence, have keys, or get them before anybody reads these."""
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
        """Another table of the same places."""
        for block in table.blocks:
            self._own(block)
        return BlockTable(list(table.blocks), table.shared, table.full, table.beginning)

    def close(self, table: BlockTable) -> None:
        """Its sequence has ended, or gives up its room."""
        for block in reversed(table.blocks):  # what stands behind others goes before them
            self._disown(block)
        table.blocks.clear()

    def _beginning(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """The blocks that are known to hold the first of `tokens`, and the number of that beginning."""
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
