"""Every fault in every phase, in the simulation."""

from __future__ import annotations

import pytest

from tests.support.matrix import CELLS, Fault, Phase
from tests.support.simulation.cells import play
from tests.support.simulation.world import Simulation, simulated


@pytest.mark.parametrize(
    ("fault", "phase"),
    [pytest.param(*cell, id=f"{cell[0].name}-{cell[1]}".replace(" ", "-")) for cell in CELLS],
)
@simulated(nodes=7)
async def test_cell(world: Simulation, fault: Fault, phase: Phase) -> None:
    await play(world, fault, phase)
