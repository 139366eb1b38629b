"""Ranks that are killed, again and again: what is counted, and what ends a run."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.simulation.world import Simulation, simulated

LONG = {"uri": "/shared/checkpoints", "everySteps": 100_000}  # none becomes durable


async def kill_ranks(world: Simulation, times: int, every: float) -> None:
    """Kill the ranks of a worker, so often, each time that so many seconds of training have passed."""
    for _ in range(times):
        await world.until_steps(1, 60)
        await asyncio.sleep(every)
        ranks = world.agent("tiny-w0-0").ranks
        assert ranks is not None
        ranks.kill()


def counted(world: Simulation) -> dict[str, int]:
    """Failures that restart limits count, by cause."""
    totals: dict[str, int] = {}
    for part in world.status["internal"]["recentFailures"]:
        for cause, number in part["failures"].items():
            totals[cause] = totals.get(cause, 0) + number
    return totals


async def training(world: Simulation, **resilience: object) -> None:
    steps = {"steps": 100_000, "globalBatchSize": 8, "microBatchSize": 2}
    optimizer = {"optimizer": {"learningRate": 0.001}}
    world.apply(checkpoint=LONG, training={**steps, **optimizer}, resilience=resilience)
    await world.until(lambda: world.phase == "Running", 30)


@simulated(nodes=3)
async def test_killed_ranks_without_a_checkpoint_in_between_never_end_a_run(world: Simulation) -> None:
    await training(world)
    await kill_ranks(world, 25, every=2.0)
    await world.until_steps(5)
    assert world.status["failures"] == {"Communication": 25}
    assert "Failed" not in [phase for _, phase in world.phases]


@pytest.mark.long
@simulated(nodes=3)
async def test_an_operator_that_is_away_for_an_hour_finds_every_failure_counted(world: Simulation) -> None:
    await training(world, restartLimits={"Communication": 60})
    await kill_ranks(world, 2, every=2.0)
    await world.until(lambda: world.status.get("failures") == {"Communication": 2}, 30)
    world.pace = 20.0
    for replica in world.operators:
        replica.kill()
    world.operators.clear()
    await kill_ranks(world, 50, every=60.0)
    await world.until_steps(1)
    world.start_operator()
    await world.until(lambda: world.status["failures"] != {"Communication": 2}, 60)
    assert world.status["failures"] == counted(world) == {"Communication": 52}
    assert world.status["restarts"] == 52
    world.pace = 1.0
    await kill_ranks(world, 8, every=2.0)
    await world.until_steps(2)
    assert counted(world) == {"Communication": 60}
    await kill_ranks(world, 1, every=2.0)
    await world.until(lambda: world.phase == "Failed", 30)
    assert world.condition("Failed")["message"].startswith("Communication 61 times, 60 allowed")
