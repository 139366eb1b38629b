"""Kubelets whose clocks are wrong by an hour: nothing is decided by what they say of the time."""

from __future__ import annotations

import asyncio

import pytest

from footplate_operator.runtime.kinds import POD
from tests.support.fake_cluster import copied
from tests.support.simulation.faults import HOUR
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated

off = pytest.mark.parametrize("clock", [-HOUR, HOUR], ids=["behind", "ahead"])
RETENTION = 60


def set_clocks(world: Simulation, clock: float) -> None:
    """Of all nodes."""
    for node in world.nodes.by_name.values():
        node.clock = clock


@off
@simulated(nodes=5)
async def test_an_ended_pod_is_kept_for_as_long_as_the_run_says(world: Simulation, clock: float) -> None:
    set_clocks(world, clock)
    world.apply(podRetentionSeconds=RETENTION)
    await training(world, 2, steps=200)
    world.nodes.end_container("tiny-w1-0", 137)
    await world.until_seconds(RETENTION - 10)
    assert (POD, "tiny-w1-0") in world.objects.objects
    await world.until(lambda: (POD, "tiny-w1-0") not in world.objects.objects, 20)


@off
@simulated(nodes=5)
async def test_pods_that_die_young_are_followed_after_seconds(world: Simulation, clock: float) -> None:
    set_clocks(world, clock)
    await training(world, 2, steps=60)
    for _ in range(5):
        newest = max(world.live_workers(), key=lambda pod: pod["metadata"]["name"])["metadata"]["name"]
        world.nodes.end_container(newest, 137)
        await world.until(lambda newest=newest: newest not in map(_name, world.live_workers()), 5)
        await world.until(lambda: len(world.live_workers()) == 2, 30)
    assert world.status["internal"]["incarnation"] == 5
    await world.until(lambda: world.phase == "Succeeded", 200)


def let_no_worker_start(world: Simulation) -> None:
    """Have workers bound to nodes that pull no image, though it may come at any time."""
    for node in world.nodes.by_name.values():
        node.broken_for = {"worker": "failed to do request: dial tcp: i/o timeout"}


def succeed_operator(world: Simulation, clock: float) -> None:
    """Kill the operator; the one that follows has another `clock`."""
    world.operators_clock = clock
    world.restart_operator()


@off
@simulated(nodes=4)
async def test_a_leader_with_another_clock_waits_for_a_checkpoint_all_the_same(
    world: Simulation, clock: float
) -> None:
    await training(world, 2, steps=60)
    world.save_seconds = 10.0
    world.apply(suspend=True)
    await world.until(lambda: world.phase == "Suspending", 10)
    succeed_operator(world, clock)
    await world.until(lambda: world.phase == "Suspended", 60)
    assert f"step {world.step} is durable" in world.condition("Ready")["message"]
    world.apply(suspend=False)
    await world.until(lambda: world.phase == "Succeeded", 200)


@off
@simulated(nodes=8)
async def test_a_leader_with_another_clock_gives_a_start_its_time(world: Simulation, clock: float) -> None:
    deadline = 60
    let_no_worker_start(world)
    world.apply(resilience={"startupDeadlineSeconds": deadline})
    await world.until(lambda: world.phase == "Starting", 10)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(deadline / 2)
    succeed_operator(world, clock)
    await world.until(lambda: world.phase == "Failed", 3 * deadline)
    assert asyncio.get_running_loop().time() - began >= deadline - 5


@simulated(nodes=8)
async def test_leaders_that_follow_each_other_count_what_each_of_them_saw(world: Simulation) -> None:
    """An hour without any, and a new message between two of them, which the second one writes."""
    deadline = 120
    let_no_worker_start(world)
    world.apply(resilience={"startupDeadlineSeconds": deadline})
    await world.until(lambda: world.phase == "Starting", 10)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(deadline / 4)
    world.operators[0].kill()
    await asyncio.sleep(HOUR)
    world.restart_operator()
    await asyncio.sleep(deadline / 4)
    _write_condition(world)
    world.restart_operator()
    await asyncio.sleep(deadline / 4)
    assert world.phase == "Starting"
    await world.until(lambda: world.phase == "Failed", deadline)
    assert asyncio.get_running_loop().time() - began - HOUR >= deadline - 5


@off
@simulated(nodes=4)
async def test_a_leader_with_another_clock_tells_how_far_the_training_is(
    world: Simulation, clock: float
) -> None:
    await training(world, 2, steps=200)
    succeed_operator(world, clock)
    await world.until(lambda: any(replica.leads for replica in world.operators), 30)
    step = world.step
    await world.until(lambda: world.status["progress"]["step"] > step, 15)


@off
@simulated(nodes=4)
async def test_a_leader_with_another_clock_lets_a_coordinator_hand_over_what_it_has(
    world: Simulation, clock: float
) -> None:
    await training(world, 2, steps=20)
    world.api_works = False
    await world.until(lambda: world.phase == "Succeeded", 60)
    succeed_operator(world, clock)
    await world.until_seconds(120)
    world.api_works = True
    await world.until(lambda: set(world.stored) == set(range(1, 21)), 60)
    await world.until(lambda: not world.live_pods(), 60)


@off
@simulated(nodes=4)
async def test_a_leader_with_another_clock_counts_both_workers_of_one_loss_once(
    world: Simulation, clock: float
) -> None:
    world.operators_clock = clock
    world.restart_operator()
    await training(world, 2, steps=60)
    world.nodes.end_container("tiny-w0-0", 137)
    await world.until(lambda: world.phase == "Restarting", 10)
    world.nodes.end_container("tiny-w1-0", 137)
    await world.until(lambda: world.phase == "Succeeded", 200)
    assert world.status["failures"] == {"NodeLost": 1}


def _write_condition(world: Simulation) -> None:
    """The status names a moment that is later than its phase."""
    body = copied(world.run)
    for condition in body["status"]["conditions"]:
        condition["lastTransitionTime"] = world.clock().isoformat()
    world.objects.put(body)


def _name(pod: dict[str, dict[str, str]]) -> str:
    return pod["metadata"]["name"]
