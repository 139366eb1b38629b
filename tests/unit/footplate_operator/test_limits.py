"""Length and checkpoints that change while a run trains: told, named where refused, followed to the end."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Limits
from footplate_operator.trainingrun.directives import directives, initial_directives, limits
from footplate_operator.trainingrun.run import decode
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World

TRAINING: dict[str, Any] = run_manifest()["spec"]["training"]


def asked(steps: int) -> Limits:
    return Limits(steps=steps, every_steps=10, keep_last=3)


async def running(steps: int = 100) -> World:
    world = World()
    world.submit(training={**TRAINING, "steps": steps})
    await world.live(20, until=lambda: world.phase == "Running")
    return world


async def test_a_run_goes_on_to_the_steps_that_were_added_and_no_pod_is_made_for_it() -> None:
    world = await running()
    world.change(training={**TRAINING, "steps": 200})
    await world.reconcile()
    assert world.coordinator().directives.limits == asked(200)
    await world.live(60, until=lambda: world.phase == "Succeeded")
    progress = world.status["progress"]
    assert (progress["step"], progress["totalSteps"], progress["percentage"]) == (200, 200, 100)
    assert world.workers() == ["tiny-w0-0", "tiny-w1-0"] and world.status["restarts"] == 0
    assert world.condition("Complete")["message"] == "trained to the last step"


@pytest.mark.parametrize(
    ("steps", "rollouts", "says"),
    [
        pytest.param(3, 3, "3 rollouts", id="killed"),
        pytest.param(9, 3, "3 rollouts", id="longer"),
        pytest.param(2, 3, "3 rollouts", id="shorter"),
        pytest.param(1, 1, "1 rollout", id="one"),
    ],
)
async def test_a_start_that_finds_its_own_answers_says_how_many_rollouts_there_were(
    steps: int, rollouts: int, says: str
) -> None:
    """It is of no other run: stage generate has no checkpoints."""
    world = World()
    world.trains = False
    output = {"maxTokens": 8, "output": {"uri": "/shared/answers"}}
    world.submit(stage="generate", training={**TRAINING, "steps": steps}, rollout=output)
    await world.live(60, until=lambda: len(world.workers("Running")) == 2)
    coordinator = world.coordinator()
    coordinator.start_step = coordinator.step = rollouts
    coordinator.state = RunState.FINISHED
    coordinator.version += 1
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert world.status["progress"]["step"] == rollouts
    said = world.condition("Complete")
    assert (said["reason"], said["message"]) == ("Finished", f"the answers of {says} are written")


async def test_fewer_steps_end_it_earlier() -> None:
    world = await running(steps=10_000)
    goal = world.coordinator().step + 20
    world.change(training={**TRAINING, "steps": goal})
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert world.status["progress"]["step"] == goal


async def test_checkpoints_change_with_it() -> None:
    world = await running()
    world.change(
        checkpoint={"uri": "/shared/checkpoints", "everySteps": 5, "keepLast": 2, "keepEverySteps": 50}
    )
    await world.reconcile()
    told = Limits(steps=100, every_steps=5, keep_last=2, keep_every_steps=50)
    assert world.coordinator().directives.limits == told


async def test_every_coordinator_knows_and_a_new_one_from_its_start() -> None:
    world = await running(steps=10_000)
    world.change(training={**TRAINING, "steps": 20_000})
    await world.reconcile()
    world.end_pod("tiny-c1", 1)
    await world.live(30, until=lambda: world.coordinator().epoch == 2)
    assert world.coordinator().directives.limits == asked(20_000)


async def test_a_length_in_the_past_is_named_until_it_is_raised() -> None:
    world = await running(steps=10_000)
    await world.live(20, until=lambda: world.coordinator().step > 60)
    world.change(training={**TRAINING, "steps": 50})
    await world.live(2)
    refused = world.condition("Reconciled")
    assert (refused["status"], refused["reason"]) == ("False", "LengthRefused")
    assert refused["message"] == world.coordinator().refusals["limits"]
    assert world.phase == "Running" and world.coordinator().total_steps == 10_000
    world.change(training={**TRAINING, "steps": 5_000})
    await world.live(2)
    assert world.condition("Reconciled")["reason"] == "AsDesired"
    assert world.coordinator().total_steps == 5_000


async def test_steps_that_come_after_the_end_are_named() -> None:
    world = await running()
    world.coordinator().reachable = False
    await world.live(60, until=lambda: world.coordinator().state == "finished")
    world.coordinator().reachable = True
    assert world.phase == "Running"
    world.change(training={**TRAINING, "steps": 200})
    await world.live(20, until=lambda: world.phase == "Succeeded")
    assert world.condition("Complete")["message"] == (
        "trained to step 100, the last one when it ended; the change to 200 steps came too late:"
        " start another run from its weights (resumeFrom)"
    )


async def test_more_steps_are_told_before_the_command_to_suspend() -> None:
    world = await running(steps=10_000)
    world.change(suspend=True, training={**TRAINING, "steps": 20_000})
    await world.reconcile()
    assert world.phase == "Suspending" and world.coordinator().directives.limits == asked(20_000)


async def test_a_coordinator_that_takes_no_directives_is_not_told_and_the_status_says_so() -> None:
    world = await running(steps=10_000)
    await world.live(2)
    [uid] = world.heard
    world.heard[uid] = world.heard[uid].model_copy(update={"directives": None})
    world.change(training={**TRAINING, "steps": 20_000})
    await world.reconcile()
    assert world.coordinator().directives.limits == asked(10_000)
    assert world.condition("Reconciled")["message"] == (
        "these take effect when the run is suspended and resumed: training.steps"
    )


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        pytest.param({"steps": 7}, 7, id="steps"),
        pytest.param({"steps": None, "tokens": 512 * 9 + 1}, 10, id="tokens"),
    ],
)
def test_tokens_are_steps(length: dict[str, int | None], steps: int) -> None:
    given = {name: value for name, value in {**TRAINING, **length}.items() if value is not None}
    body = run_manifest(training=given)
    body["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    run = decode(body)
    assert limits(run).steps == steps and initial_directives(run) == directives(run)
    body["status"] = {"progress": {"step": 60, "totalSteps": 100}}
    begin = initial_directives(decode(body)).limits
    assert begin is not None and begin.steps == 100, "what was refused does not come into force so"
