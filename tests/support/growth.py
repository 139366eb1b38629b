"""The growth of a cost with the size of what it is for, in CPU time, which other processes hardly change."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise
from types import TracebackType
from typing import Final

SIZES: Final = (256, 512, 1024, 2048)
PER_DOUBLING: Final = 2.6  # a cost that grows with the size has 2, one that grows with its square has 4
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
    """The largest factor between the costs of two successive SIZES, each the best of the tries.

    A neighbour on the same core halves its speed for milliseconds at a time. A short cost would be measured
    between two disturbances, and a long one never; so a try takes equally long for each size. Tries end as
    soon as the factor is within PER_DOUBLING.
    """
    best = dict.fromkeys(SIZES, float("inf"))
    began = time.thread_time()
    while True:
        for size in SIZES:
            times = SIZES[-1] // size
            best[size] = min(best[size], sum(cost(size) for _ in range(times)) / times)
        steepest = max(larger / smaller for smaller, larger in pairwise(best.values()))
        if steepest <= PER_DOUBLING or time.thread_time() - began > PATIENCE:
            return steepest
