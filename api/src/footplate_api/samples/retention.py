"""Of how many steps a run keeps the samples; pure.

Samples are a hundred times as long as rows, and read one step at a time. So they have bounds of their own, of
which what is left lies evenly over the run: each further look leaves at most one step of each stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from footplate_api.metrics.retention import Limits

STEPS: Final = 500  # of a run, some 10 MB
STEPS_AFTER: Final = 50  # once its rows are thinned
SHARE: Final = 0.125  # of the room, for the samples of all runs


def limits(of_rows: Limits) -> Limits:
    """As long as its rows are kept whole and thin, so are a run's samples."""
    return Limits(STEPS, of_rows.full, STEPS_AFTER, of_rows.kept)


def most(room: int | None, steps: int, size: int) -> int | None:
    """Steps that there is room for, of which `steps` take `size` bytes; None: as many as there are.

    >>> most(80_000, 10, 1000), most(None, 10, 1000), most(80_000, 0, 0)
    (100, None, None)
    """
    return None if room is None or not size else int(room * SHARE * steps / size)


def surplus(steps: Sequence[int], keep: int) -> list[int]:
    """Which of `steps` (ascending) go, so that at most `keep` stay, and the last in any case.

    Of each stretch that ends with a multiple of some length the last one stays: which steps have samples
    depends on how often a run samples.

    >>> surplus([1, 5, 9, 13, 17, 21], 3), surplus([1, 2, 3], 3), surplus([1, 2, 3], 0)
    ([1, 9, 17], [], [1, 2])
    """
    if len(steps) <= keep:
        return []
    length = 1
    while keep > 1 and len({-(-step // length) for step in steps}) > keep:
        length *= 2
    kept = {-(-step // length): step for step in steps} if keep > 1 else {}
    return sorted(set(steps) - {*kept.values(), steps[-1]})
