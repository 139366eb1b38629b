"""What people see of a run while it trains."""

from __future__ import annotations

from footplate_operator.runtime.kinds import EVENT
from tests.support.operator_fakes import run_manifest
from tests.support.simulation.world import Simulation, simulated

TRAINING = {**run_manifest()["spec"]["training"], "steps": 30}


@simulated()
async def test_a_save_that_training_waits_for_is_a_phase_of_its_own(world: Simulation) -> None:
    world.save_seconds = 25.0  # two and a half times as long as the steps between two checkpoints
    world.apply(training=TRAINING)
    await world.until(lambda: world.phase == "Checkpointing", 60)
    assert world.step == 20 and world.saved == 0
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Saving")
    assert ready["message"] == "training waits for a checkpoint in /shared/checkpoints"
    await world.until(lambda: world.phase == "Running" and world.step > 20, 60)
    await world.until(lambda: world.phase == "Succeeded", 120)
    phases = [phase for _, phase in world.phases]
    assert phases.count("Checkpointing") >= 2 and phases[-1] == "Succeeded"
    assert world.status["wallSeconds"]["checkpointing"] > 25.0
    assert world.status["restarts"] == 0
    assert {event["reason"] for event in world.objects.all(EVENT)} == {"Starting", "Running", "Succeeded"}


@simulated()
async def test_a_save_that_takes_a_moment_does_not_flicker(world: Simulation) -> None:
    world.save_seconds = 2.0
    world.apply(training=TRAINING)
    await world.until(lambda: world.phase == "Succeeded", 120)
    assert [phase for _, phase in world.phases if phase] == ["Starting", "Running", "Succeeded"]
