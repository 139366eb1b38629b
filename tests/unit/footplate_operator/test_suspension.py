"""Suspended with a checkpoint, resumed, edited in between."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.directives import HangTimeouts
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    POD,
    REVISION,
    SECRET,
)
from tests.support.operator_fakes import HANG, run_manifest
from tests.support.operator_world import World, running

TRAINING = run_manifest()["spec"]["training"]


async def test_suspension_saves_first_and_resumption_goes_on() -> None:
    world = await running()
    world.change(suspend=True)
    await world.reconcile()
    assert world.phase == "Suspending"
    await world.live(20, until=lambda: world.phase == "Suspended")
    step = world.status["checkpoint"]["latestStep"]
    assert step == world.coordinator().step
    await world.live(5)
    assert world.workers("Running") == []
    assert world.status["replicas"] == 0
    assert not world.cluster.all(DISRUPTION_BUDGET)
    assert world.cluster.names(SECRET) == ["tiny-run"] and len(world.cluster.all(CONFIG_MAP)) == 1
    world.change(suspend=False)
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.status["coordinator"]["epoch"] == 2
    assert world.coordinator().start_step == step
    assert world.workers("Running") == ["tiny-w0-1", "tiny-w1-1"]
    assert world.status["restarts"] == 0
    await world.live(60, until=lambda: world.phase == "Succeeded")
    assert [attempt["reason"] for attempt in world.status["attempts"]] == ["Suspended", "Finished"]


async def test_suspension_gives_up_on_a_coordinator_that_does_not_answer() -> None:
    world = await running(checkpoint={"uri": "/c", "everySteps": 10, "emergencyDeadlineSeconds": 5})
    world.trains = False
    world.change(suspend=True)
    await world.live(15)
    assert world.phase == "Suspending"
    await world.live(20, until=lambda: world.phase == "Suspended")
    assert "no checkpoint was acknowledged" in str(world.status["attempts"][-1]["message"])


async def test_suspended_from_the_start_makes_nothing() -> None:
    world = World()
    world.submit(suspend=True)
    await world.live(5)
    assert world.phase == "Suspended"
    assert world.cluster.all(POD) == [] and world.cluster.all(SECRET) == []


async def test_suspended_while_nothing_ran_needs_no_checkpoint() -> None:
    world = World()
    world.trains = False
    world.submit()
    await world.live(3)
    world.change(suspend=True)
    await world.reconcile()
    assert world.phase == "Suspended"


@pytest.mark.parametrize(
    ("spec", "waiting"),
    [
        pytest.param({"podRetentionSeconds": 60, "ttlSecondsAfterFinished": 60}, "", id="retention"),
        pytest.param(
            {"resilience": {"restartLimits": {"Hang": 9}, "excludeNodes": ["a"]}}, "", id="resilience"
        ),
        pytest.param({"compute": {"profile": "local-cpu", "nodes": 2, "spares": 1}}, "", id="spares"),
        pytest.param(
            {"checkpoint": {"uri": "/shared/checkpoints", "everySteps": 10, "emergencyDeadlineSeconds": 9}},
            "",
            id="deadline",
        ),
        pytest.param({"resilience": {"hang": {"factor": 2.0}}}, "", id="hang"),
        pytest.param(
            {"checkpoint": {"uri": "/shared/checkpoints", "everySteps": 5, "keepEverySteps": 50}},
            "",
            id="checkpoints",
        ),
        pytest.param({"training": {**TRAINING, "steps": 200}}, "", id="steps"),
        pytest.param(
            {
                "training": {**TRAINING, "gradientClipNorm": 2.0, "logEverySteps": 1},
                "validation": {"uri": "/shared/held-out", "everySteps": 50},
            },
            "training.gradientClipNorm, training.logEverySteps, validation.everySteps, validation.uri,"
            " validation.batches",
            id="what-ranks-read-once",
        ),
    ],
)
async def test_what_ranks_read_waits_for_a_resumption_and_the_status_names_it(
    spec: dict[str, Any], waiting: str
) -> None:
    world = await running()
    world.change(**spec)
    await world.reconcile()
    later = f"these take effect when the run is suspended and resumed: {waiting}"
    assert world.condition("Reconciled")["message"] == (later if waiting else "everything matches the spec")


async def test_what_is_held_to_be_a_hang_changes_at_once_and_for_every_coordinator() -> None:
    world = await running(training={**TRAINING, "steps": 10_000}, resilience={"hang": {"floorSeconds": 60}})
    told = HangTimeouts(factor=2.0, floor_seconds=600.0)
    world.change(resilience={"hang": {"factor": 2.0, "floorSeconds": 600}})
    await world.reconcile()
    assert world.coordinator().directives.hang == told
    world.end_pod("tiny-c1", 1)
    await world.live(
        30, until=lambda: world.coordinator().epoch == 2 and world.coordinator().directives.hang == told
    )
    world.change(resilience={})
    await world.live(10, until=lambda: world.coordinator().directives.hang == HANG)


async def test_an_edit_while_suspended_makes_a_new_revision_and_config() -> None:
    world = await running()
    world.change(suspend=True)
    await world.live(20, until=lambda: world.phase == "Suspended")
    world.change(compute={"profile": "local-cpu", "nodes": 1})
    world.change(suspend=False)
    world.coordinators.clear()
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.cluster.names(REVISION) == ["tiny-1", "tiny-2"]
    assert world.status["revision"] == "tiny-2"
    assert len(world.cluster.all(CONFIG_MAP)) == 1, "the old RunConfig is gone"
    assert world.workers("Running") == ["tiny-w0-1"]


async def test_a_suspended_coordinator_stays_until_its_telemetry_is_out() -> None:
    world = await running()
    world.coordinator().backlog = 5
    world.change(suspend=True)
    await world.live(60, until=lambda: world.phase == "Suspended")
    await world.live(60)
    assert world.cluster.names(POD) == ["tiny-c1"]
    world.coordinator().backlog = 0
    await world.live(5)
    assert world.cluster.names(POD) == []


async def test_nobody_asks_a_coordinator_that_was_suspended_away() -> None:
    world = await running()
    world.change(suspend=True)
    await world.live(60, until=lambda: world.phase == "Suspended" and not world.cluster.names(POD))
    await world.live(5)
    assert world.followed == {}
