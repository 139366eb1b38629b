"""When bare progress is written: not again at once, and never later for another leader's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

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
    await world._deliver()
    world.queue.due.clear()
    return world, world.reconciler.controller.decode(copied(world.run))


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
