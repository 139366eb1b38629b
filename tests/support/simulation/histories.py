"""A run in a cluster, and what may come over it at any moment: faults and edits, down to a good end."""

from __future__ import annotations

from typing import Any, Final

from tests.support.matrix import FAULTS, Fault, may_end
from tests.support.operator_fakes import run_manifest
from tests.support.simulation.cells import HANG
from tests.support.simulation.faults import INJECT
from tests.support.simulation.world import Simulation

STEPS: Final = 60
ENOUGH: Final = 900.0  # virtual seconds, for whatever came
EDITS: Final[dict[str, dict[str, Any]]] = {
    "suspend": {"suspend": True},
    "resume": {"suspend": False},
    "shrink": {"compute": {"nodes": 1}},
    "grow": {"compute": {"nodes": 3}},
    "longer": {"training": {"steps": 70}},
}


class Disturbed:
    """The run is applied in a cluster that has room for it and three nodes more."""

    def __init__(self, chance: int, nodes: int, spares: int = 0, least: int | None = None) -> None:
        self.world = Simulation(chance, nodes=nodes + 3)
        self.faults: list[Fault] = []
        self.world.pace = 0.5
        self.world.apply(
            compute={"profile": "local-cpu", "nodes": nodes, "spares": spares}
            | ({"minNodes": least} if least else {}),
            training={**run_manifest()["spec"]["training"], "steps": STEPS, "globalBatchSize": 12},
            resilience={"hang": HANG},
        )

    def fault(self, name: str) -> None:
        """One that comes now."""
        self.faults.append(FAULTS[name])
        INJECT[name](self.world)

    def edit(self, name: str) -> None:
        """Somebody changes his mind."""
        spec = self.world.run["spec"]
        self.world.apply(
            **{
                field: {**spec[field], **value} if isinstance(value, dict) else value
                for field, value in EDITS[name].items()
            }
        )

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        await self.world.until_seconds(seconds)

    async def ends(self) -> None:
        """All goes on to its end, which must be a good one, or one that a budget allows."""
        world = self.world
        await world.until_seconds(2.0)
        if world.phase not in ("Succeeded", "Failed"):
            world.apply(suspend=False)
        await world.until(lambda: world.phase in ("Succeeded", "Failed"), ENOUGH)
        if world.phase == "Failed":
            ended = world.status["attempts"][-1].get("cause")
            assert ended in may_end(self.faults), f"{ended}: {world.describe()}"
            world.check_invariants()
        else:
            await world.until(lambda: len(world.stored) >= STEPS, ENOUGH)
            world.check_history(world.status["progress"]["totalSteps"])
        await world.until(lambda: not world.live_pods(), ENOUGH)
