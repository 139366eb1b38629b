"""When bare progress is written: not again at once, and never later for another leader's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.reports import RankPhase
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.status_writer import SyncTimes
from footplate_operator.runtime.throttle import FEW_SECONDS
from footplate_operator.trainingrun.run import Run
from tests.support.fake_cluster import copied
from tests.support.operator_fakes import KEY
from tests.support.operator_world import World, running


async def _written(ago: float) -> tuple[World, Run]:
    """A run whose progress another leader wrote `ago` seconds before this one's clock; negative: after."""
    world = await running()
    body = copied(world.run)
    moment = world.clock() - timedelta(seconds=ago)
    body["status"]["progress"]["lastUpdatedTime"] = format_time(moment)
    world.cluster.put(body)
    world.start_operator()
    await world.watches.deliver(world.handlers)
    world.queue.due.clear()
    return world, world.reconciler.controller.decode(copied(world.run))


async def _sample(world: World, phase: RankPhase, finished: int) -> None:
    """The ranks take no step, and have `finished` so much."""
    world.trains = False
    world.coordinator().state = RunState.TRAINING
    world.coordinator().sampling = phase, finished
    world.coordinator().version += 1
    await world.live(30)


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        pytest.param(RankPhase.ROLLOUT, "they sample, 1234 tokens so far", id="rollout"),
        pytest.param(RankPhase.SCORING, "they score samples, 1234 so far", id="scoring"),
    ],
)
async def test_what_ranks_do_before_a_step_is_told_with_how_far_they_are(phase: RankPhase, says: str) -> None:
    world = await running()
    await _sample(world, phase, 1234)
    assert world.phase == "Running"
    assert world.condition("Ready")["message"] == f"all workers train; {says}"
    progress = world.status["progress"]
    assert (progress["phase"], progress["completedItems"]) == (phase.value, 1234)
    world.coordinator().sampling, world.trains = None, True
    await world.live(30, until=lambda: "phase" not in world.status["progress"])
    assert world.condition("Ready")["message"] == "all workers train"
    assert not {"phase", "completedItems"} & world.status["progress"].keys()


async def test_a_first_rollout_is_no_start_however_long_it_lasts() -> None:
    world = World()
    world.trains = False
    world.submit(resilience={"startupDeadlineSeconds": 120})
    await world.live(60, lambda: any(told.state is RunState.LOADING for told in world.coordinators.values()))
    for finished in range(0, 1000, 100):
        await _sample(world, RankPhase.ROLLOUT, finished)
        assert (world.phase, world.status["progress"]["step"]) == ("Running", 0)
        assert world.status["progress"]["completedItems"] == finished


def _further(run: Run) -> TrainingRunStatus:
    progress = run.status.progress
    assert progress is not None
    return run.status.model_copy(update={"progress": progress.model_copy(update={"step": progress.step + 1})})


@pytest.mark.parametrize(
    ("ago", "at_once"),
    [
        pytest.param(0.5, False, id="a-moment-ago"),
        pytest.param(2 * FEW_SECONDS, True, id="long-ago"),
        pytest.param(-1.0, True, id="in-a-second"),
        pytest.param(-3_600.0, True, id="in-an-hour"),
    ],
)
async def test_a_new_leader_writes_progress_when_its_time_has_come(ago: float, at_once: bool) -> None:
    world, run = await _written(ago)
    after = _further(run)
    assert after.progress is not None
    await world.reconciler.writer.report(run, after, SyncTimes(run.uid))
    assert (world.status["progress"]["step"] == after.progress.step) is at_once
    waits = world.queue.due.get(KEY)
    now = world.clock().timestamp()
    assert waits is None if at_once else waits is not None and 0 < waits - now < 2 * FEW_SECONDS
