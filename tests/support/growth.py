"""The growth of a cost with the size of what it is for, in CPU time, and of the memory that stays."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from types import TracebackType
from typing import Final

SIZES: Final = (256, 512, 1024, 2048)
PER_DOUBLING: Final = 2.6  # a cost that grows with the size has 2, one that grows with its square has 4
FEW: Final = 5
PATIENCE: Final = 60.0  # CPU seconds of tries: neighbours of a machine disturb it for seconds


class Stopwatch:
    """CPU seconds of this thread within its `with` blocks, without the collection of garbage."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        gc.disable()
        self._began = time.thread_time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.thread_time() - self._began
        gc.enable()


def steepest_doubling(cost: Callable[[int], float]) -> float:
    """The largest factor between the costs of two successive SIZES.

    A neighbour on the same core halves its speed for a while. A short cost would be measured between two
    disturbances, and a long one never; so a try takes equally long for each size. A factor is that of the
    best times or, from FEW tries on, the median of the tries where that is smaller: the best time of one size
    may be from a moment without neighbours that no other had. Tries end once all are within PER_DOUBLING.
    """
    tries: list[list[float]] = []
    began = time.thread_time()
    while True:
        tries.append([_measure(cost, size) for size in SIZES])
        best = _factors([min(times) for times in zip(*tries, strict=True)])
        usual = [median(factors) for factors in zip(*map(_factors, tries), strict=True)]
        steepest = max(map(min, best, usual) if len(tries) >= FEW else best)
        if steepest <= PER_DOUBLING or time.thread_time() - began > PATIENCE:
            return steepest


def _measure(cost: Callable[[int], float], size: int) -> float:
    times = SIZES[-1] // size
    return sum(cost(size) for _ in range(times)) / times


def _factors(costs: Sequence[float]) -> list[float]:
    return [larger / smaller for smaller, larger in pairwise(costs)]


# -- memory that stays -----------------------------------------------------------------------------


def kept(act: Callable[[], object]) -> int:
    """Bytes that are held after `act` and were not before."""
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        act()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before
