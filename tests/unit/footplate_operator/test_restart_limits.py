"""Ends of runs by restart limits, without progress, and after an operator that was away."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_contracts.reports import GenerationId
from footplate_operator.runtime.kinds import POD
from tests.support.operator_world import World, running

OWN_LIMIT = "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. "
NODE_IS_SHORT = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 24068434671, available:"
    " 23201836Ki. Container trainer was using 106848Ki, request is 0, has larger consumption of"
    " ephemeral-storage. "
)


def interrupt(world: World, *causes: Cause, every: float = 60.0, start: int | None = None) -> None:
    """So many generations of the run fail, one in so many seconds, whether an operator is there or not."""
    leader = world.coordinator()
    for number, cause in enumerate(causes):
        world.clock.advance(every)
        leader.number += 1
        leader.generation = GenerationId(epoch=leader.epoch, number=leader.number)
        message = f"{cause}: failure {number} of this kind {chr(97 + number % 26)}"
        pod = world.cluster.objects[POD, world.workers("Running")[0]]
        leader.fail(cause, Reason.RANK_KILLED, message, pod, world.clock().timestamp())
    if start is not None:
        leader.start_step = start
    world._speak()


def counted(world: World) -> dict[str, int]:
    """Failures that restart limits count, by cause."""
    totals: dict[str, int] = {}
    for part in world.status["internal"]["recentFailures"]:
        for cause, number in part["failures"].items():
            totals[cause] = totals.get(cause, 0) + number
    return totals


async def test_ranks_that_are_killed_between_two_checkpoints_never_end_a_run() -> None:
    world = await running()
    world.trains = False
    for times in range(1, 31):
        interrupt(world, Cause.COMMUNICATION)
        await world.reconcile()
        assert world.phase == "Restarting"
        assert world.status["failures"] == {"Communication": times}
        await world.live(5)
    progressing = world.condition("Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "NoProgress")
    assert "restarts without progress, none caused by the run; last: Comm" in progressing["message"]
    world.trains = True
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("Progressing")["status"] == "True"


async def test_a_limit_that_a_user_sets_for_infrastructure_holds_at_any_size_and_age() -> None:
    world = await running(resilience={"restartLimits": {"Communication": 100}})
    world.trains = False
    world.clock.advance(5 * 24 * 3600)
    for _ in range(4):
        interrupt(world, *[Cause.COMMUNICATION] * 25, every=10.0)
        await world.reconcile()
    assert (world.phase, counted(world)) == ("Restarting", {"Communication": 100})
    interrupt(world, Cause.COMMUNICATION)
    await world.reconcile()
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "RestartLimitExceeded")
    assert world.condition("Failed")["message"].startswith("Communication 101 times, 100 allowed; last: ")


async def test_an_operator_that_was_away_for_an_hour_counts_what_happened() -> None:
    world = await running()
    world.trains = False
    interrupt(world, Cause.COMMUNICATION)
    await world.reconcile()
    interrupt(world, *[Cause.NODE_LOST, Cause.PREEMPTED, Cause.COMMUNICATION] * 30, every=40.0)
    world.start_operator()
    await world.live(1)
    totals = {"Communication": 31, "NodeLost": 30, "Preempted": 30}
    assert (world.status["failures"], counted(world), world.status["restarts"]) == (totals, totals, 91)
    world.start_operator()
    await world.live(5)
    assert (world.status["failures"], counted(world)) == (totals, totals)


async def test_a_run_that_overspent_while_nobody_looked_ends() -> None:
    world = await running()
    world.trains = False
    interrupt(world, *[Cause.STORAGE] * 11, *[Cause.NODE_LOST] * 40)
    await world.reconcile()
    failed = world.condition("Failed")
    assert (world.phase, failed["reason"]) == ("Failed", "RestartLimitExceeded")
    assert failed["message"].startswith("Storage 11 times, 10 allowed")


async def test_the_coordinator_of_an_earlier_release_counts_what_it_lists() -> None:
    world = await running()
    world.trains = False
    leader = world.coordinator()
    interrupt(world, *[Cause.NODE_LOST] * 40)
    [uid] = world.heard
    told = {"failures_by_cause": {}, "checkpoint_steps": []}
    world.heard[uid] = leader.view(0.0).model_copy(update=told)
    await world.reconcile()
    assert world.status["failures"] == {"NodeLost": 32}


async def test_a_limit_refills_when_a_day_and_three_checkpoints_are_over() -> None:
    world = await running()
    interrupt(world, *[Cause.STORAGE] * 9)
    await world.reconcile()
    assert counted(world) == {"Storage": 9}
    world.clock.advance(3 * 24 * 3600)
    await world.live(20, until=lambda: len(world.coordinator().saved) == 2)
    assert counted(world) == {"Storage": 9}, "two checkpoints since"
    await world.live(20, until=lambda: len(world.coordinator().saved) == 3)
    assert (counted(world), world.status["failures"]) == ({}, {"Storage": 9})


@pytest.mark.parametrize(("code", "name"), [(139, "SIGSEGV"), (132, "SIGILL"), (134, "SIGABRT"), (2, "")])
async def test_an_agent_that_ends_at_each_start_by_its_own_mistake_ends_the_run(code: int, name: str) -> None:
    world = await running()
    world.trains = False
    for _ in range(4):
        if world.phase == "Failed":
            break
        world.end_pod(world.workers("Running")[0], code)
        await world.live(5)
    failed = world.condition("Failed")
    assert (world.phase, failed["reason"]) == ("Failed", "PodFailed")
    assert f"ended with exit code {code}{', which is ' + name if name else ''}" in failed["message"]
    assert set(world.status["failures"]) == {"UserError"}


@pytest.mark.parametrize("first", ["coordinator", "pod"])
async def test_an_agents_end_by_a_signal_explains_why_the_coordinator_lost_it(first: str) -> None:
    world = await running()
    name, leader = world.workers("Running")[0], world.coordinator()
    pod = world.cluster.objects[POD, name]
    for teller in (first, "pod" if first == "coordinator" else "coordinator"):
        if teller == "pod":
            world.end_pod(name, 139)
        else:
            leader.here.discard(0)
            seconds = world.clock().timestamp()
            leader.fail(Cause.NODE_LOST, Reason.AGENT_LOST, "its connection ended", pod, seconds)
            world._speak()
        await world.reconcile()
    assert (world.status["failures"], counted(world)) == ({"UserError": 1}, {"UserError": 1})


@pytest.mark.parametrize(
    ("message", "cause", "ends"),
    [
        pytest.param(OWN_LIMIT, "Storage", True, id="its-own-limit"),
        pytest.param(NODE_IS_SHORT, "Preempted", False, id="a-node-that-is-short"),
    ],
)
async def test_evictions_are_bounded_where_they_are_the_pods_own_doing(
    message: str, cause: str, ends: bool
) -> None:
    world = await running(resilience={"restartLimits": {"Storage": 2}})
    world.trains = False
    for _ in range(3):
        world.end_pod(world.workers("Running")[0], 137, reason="Evicted", message=message)
        await world.live(75, until=lambda: len(world.workers("Running")) == 2 or world.phase == "Failed")
    assert world.status["failures"] == {cause: 3}
    assert (world.phase == "Failed") is ends
    if ends:
        assert message.strip() in world.condition("Failed")["message"]
