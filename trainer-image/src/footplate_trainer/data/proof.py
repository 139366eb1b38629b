"""Whether a converted tokenizer reads as its own library does, tried on the text that is packed.

A conversion that is right for every text cannot be told from one that is nearly
right, but by trying. So the first megabytes are encoded by both, and the first
text that comes out differently ends the packing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

PROVEN: Final = 1 << 22  # characters

Encode = Callable[[list[str]], list[list[int]]]


class Proof:
    """Compares, until enough text was compared."""

    def __init__(self, origin: str, reference: Encode, characters: int = PROVEN) -> None:
        """`origin` is what a person knows the tokenizer by."""
        self._origin = origin
        self._reference = reference
        self._left = characters

    def check(self, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> None:
        """ValueError for the first text whose `ids` differ from the reference's."""
        for text, ours in zip(texts, ids, strict=True):
            if self._left <= 0:
                return
            self._left -= len(text)
            [theirs] = self._reference([text])
            # Two ways of equal score through a row of equal signs differ in their order only.
            if list(ours) != theirs and sorted(ours) != sorted(theirs):
                raise ValueError(self._difference(text, ours, theirs))

    def _difference(self, text: str, ours: Sequence[int], theirs: Sequence[int]) -> str:
        pairs = zip(ours, theirs, strict=False)
        place = next(
            (n for n, (mine, other) in enumerate(pairs) if mine != other), min(len(ours), len(theirs))
        )
        return (
            f"--tokenizer {self._origin} cannot be written as tokenizer.json: the text that begins with "
            f"{text[:40]!r} comes out otherwise at token {place}: {list(ours[place : place + 4])} instead of "
            f"{list(theirs[place : place + 4])}; give a tokenizer.json"
        )
