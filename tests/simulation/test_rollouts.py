"""Rollouts that last longer than any bound are neither a hang nor a start that fails."""

from __future__ import annotations

from tests.support.operator_fakes import run_manifest
from tests.support.simulation.cells import HANG
from tests.support.simulation.training import Sampling
from tests.support.simulation.world import Simulation, simulated


@simulated(nodes=3)
async def test_a_first_rollout_may_last_longer_than_a_start_and_than_any_bound(world: Simulation) -> None:
    world.sampling = Sampling(every=20, tokens=40, samples=20, seconds=1.0)
    world.apply(
        compute={"profile": "local-cpu", "nodes": 2},
        training={**run_manifest()["spec"]["training"], "steps": 20},
        resilience={"hang": HANG, "startupDeadlineSeconds": 20},
    )
    await world.until(lambda: world.phase == "Running", 20)
    assert world.status["progress"]["phase"] == "rollout" and not world.steps
    await world.until(lambda: world.status["progress"].get("phase") == "scoring", 60)
    assert "they score samples" in world.condition("Ready")["message"] and not world.steps
    await world.until(lambda: world.phase == "Succeeded", 60)
    assert world.status.get("failures", {}) == {}
    assert "Restarting" not in [phase for _, phase in world.phases]
    world.check_history(20)
