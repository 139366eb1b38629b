"""The history reaches as far as the weights do, whoever is lost with the rows that are on their way."""

from __future__ import annotations

from footplate_elastic.protocol.unstored_rows import MOST_WITH_SAMPLES
from tests.support.simulation.stories import training
from tests.support.simulation.training import Sampling
from tests.support.simulation.world import Simulation, simulated


@simulated(nodes=8)
async def test_rows_outlive_coordinator_and_rank_0_together_and_a_second_time(world: Simulation) -> None:
    await training(world, 2)
    world.api_works = False
    stored = set(world.stored)
    for _ in range(2):
        await world.until(lambda: world.saved >= world.step - 3 and world.saved > max(stored), 60)
        coordinator = world.coordinator()
        sealed = coordinator.service.coordinator.state.sealed
        assert sealed is not None
        for place in (coordinator.place, sealed.members[0].agent.node_name):
            assert world.network.lit(place)
            world.power_off(place)
        step = world.saved
        await world.until_steps(1, 120)
        await world.until(lambda saved=step: world.saved > saved, 60)
    assert set(world.stored) == stored  # nobody has told the API anything
    world.api_works = True
    await world.until(lambda: world.phase == "Succeeded", 300)
    world.check_history(100)


@simulated(nodes=8)
async def test_samples_outlive_coordinator_and_rank_0_together_with_their_rows(world: Simulation) -> None:
    world.sampling = Sampling(every=1, tokens=1, samples=1, seconds=0.01)
    await training(world, 2)
    world.api_works = False
    stored = max(world.stored)
    await world.until(lambda: world.saved >= world.step - 3 and world.saved > stored, 60)
    coordinator, saved = world.coordinator(), world.saved
    sealed = coordinator.service.coordinator.state.sealed
    assert sealed is not None
    for place in (coordinator.place, sealed.members[0].agent.node_name):
        world.power_off(place)
    await world.until_steps(1, 120)
    world.api_works = True
    await world.until(lambda: world.phase == "Succeeded", 300)
    world.check_history(100)
    carried = range(max(1, saved - MOST_WITH_SAMPLES + 1), 101)
    assert [step for step in carried if not world.history.samples[step]] == []


@simulated(nodes=4)
async def test_a_checkpoint_carries_what_nobody_has_said_is_stored(world: Simulation) -> None:
    await training(world, 2)
    volume = world.volume(world.run["metadata"]["uid"])
    await world.until(lambda: world.saved == 10, 30)
    world.api_works = False
    await world.until(lambda: world.saved == 30, 60)
    world.api_works = True
    await world.until(lambda: world.phase == "Succeeded", 300)
    carried = {step: [row.metrics.step for row in state.rows] for step, state in volume.states.items()}
    assert {*range(11, 31)} <= {*carried[30]}
    assert all(rows[-1] == step for step, rows in carried.items())
    assert all(len(carried[step]) <= 3 for step in (10, 50, 100)), carried  # those on their way
