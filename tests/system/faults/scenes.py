"""Which cells are played side by side. Pure.

What comes over the whole cluster comes once over many of its cells, each of which has a run of its own
that waits in its phase. What comes over one run shares the cluster with others of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Final

from tests.support.matrix import Fault, Phase

Cell = tuple[Fault, Phase]
AT_MOST: Final = 8  # runs: results are kept when all of a scene have ended
# After these faults the gangs of a scene gather one after the other: with many of them a cell's seconds are
# the others' turns.
AT_MOST_OF: Final[Mapping[str, int]] = {"no room": 2}


def scenes(cells: Sequence[Cell], over_all: Set[str]) -> list[list[Cell]]:
    """The cells in the order in which they are played, those of a scene together.

    Args:
        over_all: names of the faults that come over the whole cluster.
    """
    shared = dict.fromkeys(fault.name for fault, _ in cells if fault.name in over_all)
    kinds = [[cell for cell in cells if cell[0].name not in over_all]]
    kinds += ([cell for cell in cells if cell[0].name == name] for name in shared)
    return [
        kind[first : first + most]
        for kind in kinds
        if kind and (most := AT_MOST_OF.get(kind[0][0].name, AT_MOST))
        for first in range(0, len(kind), most)
    ]
