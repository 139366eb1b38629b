"""How the faults of the matrix come over real pods.

A fault of one run comes over each of its runs; one of the whole cluster comes once, over all that stand
there. What is only for a while is mended by the clock, what a run must get along without when all have
ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.system.faults.ground import Ground
from tests.system.faults.mending import Mending
from tests.system.faults.over_cluster import CLUSTER
from tests.system.faults.over_runs import RUNS
from tests.system.faults.stand import Stand, begin


def inject(ground: Ground, stands: Sequence[Stand], mending: Mending) -> None:
    """Bring the one fault of all these stands over them, and let those go on that are held."""
    [name] = {stand.fault.name for stand in stands}
    begin(stands)
    if name in CLUSTER:
        CLUSTER[name](ground, stands, mending)
    for stand in stands:
        if name in RUNS:
            begin([stand])
            RUNS[name](stand, mending)
        if stand.released:
            stand.grip.let_go()
