"""A row of the table of decisions: its cost in CPU seconds by number of pods or agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SIZES: Final = (256, 512, 1024)


@dataclass(frozen=True)
class Row:
    """One decision. `cost` returns CPU seconds for a number of pods or agents; `bar` is for each of SIZES."""

    what: str
    cost: Callable[[int], float]
    bar: tuple[float | None, ...] = (None,) * len(SIZES)
    share: Callable[[int], int] = lambda _: 1  # of how many operations the cost is the sum
