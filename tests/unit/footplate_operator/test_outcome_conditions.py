"""Conditions Complete, Failed and Suspended, as batch/v1 Job has them, in every ending of a run."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Cause, Reason
from footplate_operator.runtime.kinds import POD, Json
from tests.support.operator_world import World, running
from tests.unit.footplate_operator.test_budget_life import price, trains

OUTCOMES = ("Complete", "Failed", "Suspended")


def outcome(world: World) -> dict[str, tuple[str, str]]:
    """Status and reason of those of the three conditions that the run has."""
    found = {kind: world.condition(kind) for kind in OUTCOMES}
    return {kind: (said["status"], said["reason"]) for kind, said in found.items() if said}


async def suspend(world: World) -> Json:
    """The condition of a run that is suspended by hand."""
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    return world.condition("Suspended")


async def test_a_run_that_trains_has_none_of_them() -> None:
    assert outcome(await running()) == {}


async def test_complete_is_true_of_a_run_that_trained_its_last_step() -> None:
    world = await running()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert outcome(world) == {"Complete": ("True", "Finished")}
    complete = world.condition("Complete")
    assert complete["lastTransitionTime"] == world.status["completionTime"]
    assert complete["observedGeneration"] == world.run["metadata"]["generation"]
    await world.live(60)
    assert world.condition("Complete") == complete


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        pytest.param(Cause.IMAGE_OR_CONFIG, Reason.DATA_MISSING, id="missing-data"),
        pytest.param(Cause.STORAGE, Reason.STORAGE_FULL, id="full-volume-without-a-checkpoint"),
    ],
)
async def test_failed_is_true_of_a_run_that_failed_with_reason_and_message(
    cause: Cause, reason: Reason
) -> None:
    world = await running()
    pod = world.cluster.objects[POD, "tiny-w0-0"]
    world.coordinator().fail(cause, reason, "what is wrong", pod, world.clock().timestamp())
    world._speak()
    await world.reconcile()
    assert outcome(world) == {"Failed": ("True", reason)}
    said = world.condition("Failed")
    assert "what is wrong" in said["message"]
    assert said["lastTransitionTime"] == world.status["completionTime"]
    assert said["observedGeneration"] == world.run["metadata"]["generation"]
    await world.live(60)
    assert world.condition("Failed") == said


async def test_failed_is_true_of_a_run_that_never_started() -> None:
    world = World()
    world.kubelet_works = False
    world.submit(resilience={"startupDeadlineSeconds": 60})
    await world.live(5, until=lambda: bool(world.cluster.names(POD)))
    world.start_pod("tiny-c1", "10.0.0.9")
    world.end_pod("tiny-c1", 78)
    await world.live(120, until=lambda: world.phase == "Failed")
    assert outcome(world).keys() == {"Failed"}


async def test_suspended_is_true_until_the_run_is_resumed() -> None:
    world = await running()
    world.change(suspend=True)
    await world.reconcile()
    assert (world.phase, outcome(world)) == ("Suspending", {})
    said = await suspend(world)
    assert outcome(world) == {"Suspended": ("True", "Suspended")}
    assert said["message"] == f"step {world.coordinator().step} is durable"
    assert said["lastTransitionTime"] == world.status["lastTransitionTime"]
    await world.live(60)
    assert world.condition("Suspended") == said
    world.change(podRetentionSeconds=60)
    await world.live(5)
    generation = world.run["metadata"]["generation"]
    assert world.condition("Suspended") == {**said, "observedGeneration": generation}
    world.change(suspend=False)
    await world.reconcile()
    resumed = world.condition("Suspended")
    assert (resumed["status"], resumed["reason"], resumed["message"]) == (
        "False",
        "Resumed",
        "the run was resumed",
    )
    assert resumed["lastTransitionTime"] > said["lastTransitionTime"]
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert outcome(world) == {"Complete": ("True", "Finished"), "Suspended": ("False", "Resumed")}
    assert world.condition("Suspended")["lastTransitionTime"] == resumed["lastTransitionTime"]


async def test_suspended_is_true_again_once_the_pods_are_gone_again() -> None:
    world = await running()
    first = await suspend(world)
    world.change(suspend=False)
    await world.live(30, until=lambda: world.phase == "Running")
    world.change(suspend=True)
    await world.reconcile()
    assert (world.phase, outcome(world)) == ("Suspending", {"Suspended": ("False", "Resumed")})
    again = await suspend(world)
    assert again["status"] == "True" and again["lastTransitionTime"] > first["lastTransitionTime"]


async def test_a_run_that_fails_after_its_resumption_is_failed_and_not_suspended() -> None:
    world = await running()
    await suspend(world)
    world.change(suspend=False)
    await world.live(30, until=lambda: world.phase == "Running")
    pod = world.cluster.objects[POD, world.workers("Running")[0]]
    said = (Cause.IMAGE_OR_CONFIG, Reason.DATA_CORRUPT, "what is wrong")
    world.coordinator().fail(*said, pod, world.clock().timestamp())
    world._speak()
    await world.reconcile()
    assert outcome(world) == {"Failed": ("True", "DataCorrupt"), "Suspended": ("False", "Resumed")}


async def test_suspended_says_that_no_checkpoint_came_in_time() -> None:
    world = await running(checkpoint={"uri": "/c", "everySteps": 10, "emergencyDeadlineSeconds": 5})
    world.trains = False
    said = await suspend(world)
    assert (said["status"], said["reason"]) == ("True", "Suspended")
    assert said["message"].startswith("no checkpoint was acknowledged in time")


async def test_suspended_from_the_start_is_suspended_for_its_spec() -> None:
    world = World()
    world.submit(suspend=True)
    await world.live(5)
    said = world.condition("Suspended")
    assert (said["status"], said["reason"], said["message"]) == ("True", "Suspended", "spec.suspend is true")
    world.change(suspend=False, compute={"profile": "nowhere", "nodes": 2})
    await world.live(5)
    assert (world.phase, outcome(world)) == ("Queued", {"Suspended": ("False", "Resumed")})


async def test_suspended_by_a_spent_budget_has_that_reason() -> None:
    world = await trains(price(), dollars=20)
    await world.live(60, until=lambda: world.phase == "Suspended")
    assert outcome(world) == {"Suspended": ("True", "BudgetExceeded")}
    said = world.condition("Suspended")
    assert said["message"] == world.condition("Ready")["message"]
    world.change(suspend=True)
    await world.live(5)
    assert outcome(world) == {"Suspended": ("True", "Suspended")}
    assert world.condition("Suspended")["lastTransitionTime"] == said["lastTransitionTime"]
    world.change(suspend=False, budget={"dollars": 400})
    await world.live(30, until=lambda: world.phase == "Running")
    assert outcome(world) == {"Suspended": ("False", "Resumed")}
