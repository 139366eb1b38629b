"""What events make the operator look at."""

from __future__ import annotations

import random

import pytest

from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.workqueue import WorkQueue
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.fake_cluster import travelled
from tests.support.operator_fakes import KEY, run_manifest
from tests.support.operator_world import World, running


async def test_a_status_that_we_wrote_ourselves_wakes_nobody() -> None:
    world = await running()
    world.trains = False
    await world.live(5)
    world.queue.due.clear()
    told = world.handlers[TRAINING_RUN]
    await told({"type": "MODIFIED", "object": travelled(world.run)})
    assert world.queue.due == {}
    world.change(podRetentionSeconds=60)
    await world.watches.deliver(world.handlers)
    assert KEY in world.queue.due


async def test_a_run_that_trains_is_reconciled_for_its_news_alone() -> None:
    world = await running(training={**run_manifest()["spec"]["training"], "steps": 10_000})
    await world.live(5)
    before, count = world.cluster.calls.count("apply TrainingRun"), 0
    looks = 40
    for _ in range(looks):
        count += await world.reconcile()
        world.clock.advance(0.5)
        world._train()
        world._speak()
    written = world.cluster.calls.count("apply TrainingRun") - before
    assert written >= 4, "progress is written"
    assert count <= looks + 2, "once for each word of the coordinator"


@pytest.mark.parametrize(
    ("event", "order"),
    [
        pytest.param(None, ["live", "ended"], id="listed"),
        pytest.param("MODIFIED", ["ended", "live"], id="changed"),
    ],
)
async def test_runs_that_ended_wait_for_those_that_train(event: str | None, order: list[str]) -> None:
    queue: WorkQueue[Key] = WorkQueue(random.Random(0))
    world = World()
    told = Handlers(world.reconciler.controller, world.cache, queue).watches()[TRAINING_RUN]
    for version, (name, phase) in enumerate((("ended", "Succeeded"), ("live", "Running"))):
        await told({"type": event, "object": _run(name, phase, version)})
    assert [(await queue._next()).name for _ in order] == order


def _run(name: str, phase: str, version: int) -> Json:
    body = run_manifest(name)
    body["metadata"] |= {"uid": name, "resourceVersion": str(version)}
    return {**body, "status": {"phase": phase}}
