"""Every fault in every phase, in the simulation."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.matrix import CELLS, Fault, Phase
from tests.support.simulation.cells import LONGER, play
from tests.support.simulation.world import Simulation, simulated

# Of phases that last longer, and what costs seconds: the others of these are for `make test-long`.
FEW: Final = {
    ("rank killed", Phase.ROLLOUT),
    ("rank stopped", Phase.ROLLOUT),
    ("coordinator killed", Phase.ROLLOUT),
    ("rank stopped", Phase.SCORING),
    ("worker deleted", Phase.SCORING),
}


@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        pytest.param(
            fault,
            phase,
            id=f"{fault.name}-{phase}".replace(" ", "-"),
            marks=[pytest.mark.long] * (phase in LONGER and (fault.name, phase) not in FEW),
        )
        for fault, phase in CELLS
    ],
)
@simulated(nodes=7)
async def test_cell(world: Simulation, fault: Fault, phase: Phase) -> None:
    await play(world, fault, phase)
