"""A run is deleted once the API has its final status, and its history says how it ended."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Reason
from footplate_operator.runtime.kinds import EVENT
from footplate_operator.trainingrun.policies.deletion import LONGEST_SECONDS
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.operator_fakes import NAME
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated


def exists(world: Simulation) -> bool:
    """Whether the run is there."""
    return (TRAINING_RUN, NAME) in world.objects.objects


async def ended_without_api(world: Simulation, **spec: object) -> str:
    """Train to the end while the API is away; the run's uid."""
    world.apply(ttlSecondsAfterFinished=0, **spec)
    await training(world, 2, steps=20)
    uid = str(world.run["metadata"]["uid"])
    world.api_works = False
    await world.until(lambda: world.phase == "Succeeded", 60)
    return uid


@simulated(nodes=4)
async def test_a_run_that_ends_while_the_api_is_away_is_recorded_and_then_deleted(world: Simulation) -> None:
    uid = await ended_without_api(world)
    await world.until_seconds(900)
    assert exists(world)
    world.api_works = True
    assert world.history.phase(uid) == "Succeeded"
    await world.until(lambda: not exists(world), 60)
    assert world.history.phase(uid) == "Succeeded"
    assert all(event["reason"] != Reason.FINAL_STATUS_LOST for event in world.objects.all(EVENT))


@simulated(nodes=4)
async def test_an_operator_that_restarts_asks_again(world: Simulation) -> None:
    uid = await ended_without_api(world)
    await world.until_seconds(600)
    world.restart_operator()
    await world.until_seconds(120)
    assert exists(world)
    world.api_works = True
    await world.until(lambda: not exists(world), 60)
    assert world.history.phase(uid) == "Succeeded"


@simulated(nodes=4)
async def test_an_api_that_never_comes_back_is_waited_for_no_longer_than_an_hour(world: Simulation) -> None:
    uid = await ended_without_api(world)
    await world.until_seconds(LONGEST_SECONDS - 120)
    assert exists(world)
    await world.until(lambda: not exists(world), 240)
    [event] = [event for event in world.objects.all(EVENT) if event["reason"] == Reason.FINAL_STATUS_LOST]
    assert event["type"] == "Warning" and event["regarding"]["uid"] == uid
    assert "no answer in time" in event["note"]


@pytest.mark.long
@simulated(nodes=4)
async def test_operator_and_api_that_come_back_together_after_hours_lose_no_end(world: Simulation) -> None:
    uid = await ended_without_api(world)
    for replica in world.operators:
        replica.kill()
    await world.until_seconds(5 * 3600)
    world.restart_operator()
    await world.until_seconds(660)  # a migration, say
    assert exists(world)
    world.api_works = True
    await world.until(lambda: not exists(world), 60)
    assert world.history.phase(uid) == "Succeeded"


@simulated(nodes=4)
async def test_an_api_that_is_there_delays_a_deletion_by_seconds(world: Simulation) -> None:
    world.apply(ttlSecondsAfterFinished=0)
    await training(world, 2, steps=20)
    await world.until(lambda: not exists(world), 60)
    assert world.history.asked <= 2


@pytest.mark.parametrize("lifetime", [pytest.param(0, id="ttl-0"), pytest.param(None, id="none")])
@simulated(nodes=4)
async def test_a_persons_delete_waits_for_no_api(world: Simulation, lifetime: int | None) -> None:
    await ended_without_api(world)
    world.apply(ttlSecondsAfterFinished=lifetime)
    world.delete()
    assert not exists(world)
    await world.until(lambda: not world.pods(), 60)
