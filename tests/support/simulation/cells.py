"""A cell of the matrix, played: the run is brought into the phase, the fault comes, and all goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from footplate_contracts.reports import RankPhase
from footplate_elastic.coordinator.state import Rendezvous
from footplate_operator.profiles import PROFILE
from tests.support.matrix import Fault, Phase
from tests.support.operator_fakes import profile_manifest, run_manifest
from tests.support.simulation.faults import INJECT
from tests.support.simulation.invariants import Witness
from tests.support.simulation.training import Sampling
from tests.support.simulation.world import Simulation

NODES: Final = 3  # of the run
_LOOK: Final = 0.25  # seconds
STEPS: Final = 40
HANG: Final = {"factor": 3.0, "floorSeconds": 5} | {
    f"{phase}Seconds": 10
    for phase in ("loading", "firstStep", "checkpoint", "validation", "rollout", "scoring")
}
USUAL: Final = 20.0  # seconds from the beginning of a phase to its end, undisturbed
# Each phase of it lasts longer than what would be a hang, and begins anew where a fault broke it off.
SAMPLING: Final = Sampling(every=20, tokens=12, samples=12, seconds=1.0)
LONGER: Final = dict.fromkeys((Phase.ROLLOUT, Phase.SCORING), 24.0)  # than usual


def apply(world: Simulation) -> None:
    """The run of all cells: three nodes, one spare beside them, a hang after five seconds, or ten."""
    world.apply(
        compute={"profile": "local-cpu", "nodes": NODES, "spares": 1},
        training={**run_manifest()["spec"]["training"], "steps": STEPS, "globalBatchSize": 12},
        resilience={"hang": HANG},
    )


async def _queued(world: Simulation) -> None:
    world.objects.bury(PROFILE, "local-cpu")
    apply(world)
    await world.until(lambda: world.phase == "Queued", 20)


async def _starting(world: Simulation) -> None:
    apply(world)
    await world.until(lambda: len(world.live_workers()) == NODES, 20)
    assert world.phase == "Starting" and not world.steps


async def _rendezvous(world: Simulation) -> None:
    apply(world)
    await world.until(lambda: _sealed(world), 20)
    assert world.phase == "Starting" and not world.steps


async def _stepping(world: Simulation) -> None:
    apply(world)
    await world.until(lambda: world.step == 13, 60)
    assert world.phase == "Running" and world.saved == 10


async def _sampling(world: Simulation, phase: RankPhase) -> None:
    world.sampling = SAMPLING
    apply(world)

    def samples() -> bool:
        seen = world.coordinator().service.coordinator.progress.view()
        return seen.step == 20 and seen.phase is phase and (seen.finished or 0) >= 4 * NODES

    await world.until(lambda: world.step == 13 and world.saved == 10, 90)
    await world.until(samples, 60)
    assert world.phase == "Running" and world.saved == 20


async def _checkpointing(world: Simulation) -> None:
    await _stepping(world)
    world.save_seconds = 2.0
    await world.until(lambda: world.writing > 0, 20)
    assert world.phase == "Running" and world.step >= 20 and world.saved == 10


async def _suspending(world: Simulation) -> None:
    await _stepping(world)
    world.save_seconds = 2.0
    world.apply(suspend=True)
    await world.until(lambda: world.phase == "Suspending" and world.writing > 0, 20)


async def _resuming(world: Simulation) -> None:
    await _stepping(world)
    world.apply(suspend=True)
    await world.until(lambda: world.phase == "Suspended" and not world.pods("worker"), 60)
    world.apply(suspend=False)
    await world.until(lambda: world.phase == "Starting" and len(world.live_workers()) == NODES, 20)


async def _restarting(world: Simulation) -> None:
    await _stepping(world)
    INJECT["rank killed"](world)
    await world.until(lambda: world.phase == "Restarting", 5)


BRING: Final[Mapping[Phase, Callable[[Simulation], Awaitable[None]]]] = {
    Phase.QUEUED: _queued,
    Phase.STARTING: _starting,
    Phase.RENDEZVOUS: _rendezvous,
    Phase.STEPPING: _stepping,
    Phase.ROLLOUT: partial(_sampling, phase=RankPhase.ROLLOUT),
    Phase.SCORING: partial(_sampling, phase=RankPhase.SCORING),
    Phase.CHECKPOINTING: _checkpointing,
    Phase.SUSPENDING: _suspending,
    Phase.RESUMING: _resuming,
    Phase.RESTARTING: _restarting,
}


@dataclass(frozen=True)
class Outcome:
    """What was seen of a cell that is right."""

    seconds: float  # from the fault until the run was where it should be
    causes: tuple[str, ...]  # counted since
    detected: float | None  # from the fault until the status counted one


async def play(world: Simulation, fault: Fault, phase: Phase) -> Outcome:
    """Play the cell, and hold it to what is right."""
    await BRING[phase](world)
    witness = Witness(world)
    before = dict(world.status.get("failures", {}))
    begun = asyncio.get_running_loop().time()
    noting = asyncio.ensure_future(_counted(world, before))
    INJECT[fault.name](world)
    done = len(world.steps)
    world.save_seconds = 0.2
    if phase is Phase.QUEUED:
        world.objects.put(profile_manifest())
    seconds, usual = None, USUAL + LONGER.get(phase, 0.0)
    if phase is Phase.SUSPENDING:
        await world.until(lambda: world.phase == "Suspended", usual + fault.seconds)
        seconds = asyncio.get_running_loop().time() - begun
        await world.until(lambda: not world.live_workers(), 60)
        world.apply(suspend=False)

    def goes_on() -> bool:
        return len(world.steps) > done and world.phase in ("Running", "Succeeded")

    await world.until(goes_on, usual + fault.seconds)
    if seconds is None:
        seconds = asyncio.get_running_loop().time() - begun
    await world.until(lambda: world.phase == "Succeeded", 300)
    noting.cancel()
    after = world.status.get("failures", {})
    counted = {cause for cause in after if after[cause] > before.get(cause, 0)}
    assert not (excess := fault.find_excess(before, after)), f"{fault.name}: {excess}"
    detected = round(noting.result() - begun, 1) if counted else None
    # What announces its end samples until all have saved.
    in_time = fault.detected + LONGER.get(phase, 0.0)
    assert (detected or 0.0) <= in_time, f"{fault.name} was detected after {detected} s"
    await world.until(lambda: len(world.stored) == STEPS, 60)  # the API may have been away
    world.check_history(STEPS)
    await world.until(lambda: not world.live_pods(), 300)
    witness.dismiss()
    assert not witness.late, next(iter(witness.late.values()))
    return Outcome(round(seconds, 1), tuple(sorted(counted)), detected)


async def _counted(world: Simulation, before: Mapping[str, int]) -> float:
    """The moment at which the status counts more failures than `before`."""
    while not any(count > before.get(cause, 0) for cause, count in world.status.get("failures", {}).items()):
        await asyncio.sleep(_LOOK)
    return asyncio.get_running_loop().time()


def _sealed(world: Simulation) -> bool:
    pods = [pod for pod in world.pods("coordinator") if pod["status"].get("podIP")]
    if not pods or not world.coordinator().listens:
        return False
    return world.coordinator().service.coordinator.state.rendezvous is Rendezvous.SEALED
