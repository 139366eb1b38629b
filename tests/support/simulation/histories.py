"""A run in a cluster, and what may come over it at any moment: faults and edits, down to a good end."""

from __future__ import annotations

from typing import Any, Final

from footplate_operator.runtime.kinds import POD
from tests.support.matrix import FAULTS, Fault, may_end
from tests.support.operator_fakes import run_manifest
from tests.support.simulation.cells import HANG
from tests.support.simulation.faults import INJECT
from tests.support.simulation.world import CHECKPOINT, Simulation

STEPS: Final = 60
ENOUGH: Final = 900.0  # virtual seconds, for whatever came
EDITS: Final[dict[str, dict[str, Any]]] = {
    "suspend": {"suspend": True},
    "resume": {"suspend": False},
    "shrink": {"compute": {"nodes": 1}},
    "grow": {"compute": {"nodes": 3}},
    "longer": {"training": {"steps": 70}},
    "shorter": {"training": {"steps": 50}},
    "fewer may train": {"compute": {"minNodes": 1}},
    "all must train": {"compute": {"minNodes": None}},
}
CRASHES: Final = {f"operator dies after call {calls}": calls for calls in (1, 2, 3, 5)}
TAKES: Final = 8  # steps within which a new length is in force, where nothing goes wrong
COLLECTED: Final = 10.0  # seconds until Kubernetes deletes what a deleted run has left
SIZE_TAKES: Final = 30  # and a new size, which waits for a checkpoint


class Disturbed:
    """The run is applied in a cluster that has room for it and three nodes more."""

    def __init__(
        self, chance: int, nodes: int, spares: int = 0, least: int | None = None, memory: bool = False
    ) -> None:
        self.world = Simulation(chance, nodes=nodes + 3)
        self.faults: list[Fault] = []
        self.crashed = False
        self.edited: dict[str, int] = {}  # field of the spec -> the step at which it was changed last
        self.world.pace = 0.5
        self.world.apply(
            compute={"profile": "local-cpu", "nodes": nodes, "spares": spares}
            | ({"minNodes": least} if least else {}),
            training={**run_manifest()["spec"]["training"], "steps": STEPS, "globalBatchSize": 12},
            resilience={"hang": HANG},
            **({"checkpoint": {**CHECKPOINT, "memory": {"everySteps": 1}}} if memory else {}),
        )

    def fault(self, name: str) -> None:
        """One that comes now."""
        self.faults.append(FAULTS[name])
        INJECT[name](self.world)

    def edit(self, name: str) -> None:
        """Somebody changes his mind."""
        spec = self.world.run["spec"]
        for field, value in EDITS[name].items():
            self.edited[field] = self.world.step
            self.world.apply(**{field: _edited(spec[field], value) if isinstance(value, dict) else value})

    def crash(self, name: str) -> None:
        """The operator dies in the middle of what it does next."""
        self.crashed = True
        self.world.crash_after(CRASHES[name])

    async def wait(self, seconds: float) -> None:
        """Time passes."""
        await self.world.until_seconds(seconds)

    async def ends(self) -> None:
        """All goes on to its end, which must be a good one, or one that a budget allows."""
        world = self.world
        await world.until_seconds(2.0)
        if world.run["spec"].get("suspend"):
            await world.until(lambda: world.phase in ("Suspended", "Succeeded", "Failed"), ENOUGH)
            await world.until(lambda: not world.live_workers(), ENOUGH)
        if world.phase not in ("Succeeded", "Failed"):
            world.apply(suspend=False)
        await world.until(lambda: world.phase in ("Succeeded", "Failed"), ENOUGH)
        if world.phase == "Failed":
            ended = world.status["attempts"][-1].get("cause")
            assert ended in may_end(self.faults), f"{ended}: {world.describe()}"
            world.check_invariants()
        else:
            total = world.status["progress"]["totalSteps"]
            await world.until(lambda: len(world.stored) >= total, ENOUGH)
            world.check_history(total)
            self._check_spec()
        await world.until(lambda: not world.live_pods(), ENOUGH)

    async def deleted(self) -> None:
        """Somebody deletes it, and nothing of it is left."""
        self.world.delete()
        await self.world.until_seconds(COLLECTED)
        if not self.faults and not self.crashed:
            staying = [pod for pod in self.world.live_pods() if "deletionTimestamp" not in pod["metadata"]]
            assert not staying, f"nobody deletes {[pod['metadata']['name'] for pod in staying]}"
        for pod in self.world.live_pods():
            self.world.objects.end(POD, pod["metadata"]["name"], 30)
        await self.world.until(lambda: not self.world.live_pods(), ENOUGH)
        self.world.check_invariants()
        await self.world.until(self.world.usage.settled, ENOUGH)
        self.world.usage.check()

    def _check_spec(self) -> None:
        """It ended where the last spec says, where that came in time and nothing else came over it."""
        if self.faults or self.crashed:
            return
        spec, status = self.world.run["spec"], self.world.status
        total = status["progress"]["totalSteps"]
        if self.edited.get("training", 0) + TAKES < min(total, spec["training"]["steps"]):
            assert total == spec["training"]["steps"], f"trained to {total}"
        if self.edited.get("compute", 0) + SIZE_TAKES < total:
            trained = status["attempts"][-1]["nodes"]
            assert trained == spec["compute"]["nodes"], f"{trained} nodes trained to the end"


def _edited(part: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`part` of a spec with `change`; what is None there is left out."""
    return {name: value for name, value in {**part, **change}.items() if value is not None}
