"""A hundred coordinators that do not answer, and one run that needs a substitute."""

from __future__ import annotations

import asyncio
import json
import random
from functools import partial

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.directives import Directives
from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.runtime.metrics import Metrics
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.reconcile import Reconciler
from footplate_operator.runtime.status_writer import StatusWriter
from footplate_operator.runtime.workqueue import WorkQueue
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.coordinator_client import (
    BaseCoordinatorClient,
    CoordinatorEndpoint,
    CoordinatorPoller,
)
from footplate_operator.trainingrun.history_client import NullRecordingTracker
from footplate_operator.trainingrun.metrics import RunMetrics
from tests.support.fake_cluster import FakeCluster, travelled
from tests.support.operator_fakes import DEFAULTS, RELEASE, services_of
from tests.support.operator_world import RESYNC_SECONDS, running
from tests.support.simulation.virtual_loop import in_virtual_time

SILENT = 100  # more than are worked on at once, those that take long among them


class Silent(BaseCoordinatorClient):
    """A coordinator that takes connections and never answers."""

    told: list[Directives] = []

    def __init__(self, endpoint: CoordinatorEndpoint) -> None:
        self.endpoint = endpoint

    async def state(self, after: int, wait: float) -> CoordinatorState:
        await asyncio.Event().wait()
        raise AssertionError

    async def send_directives(self, directives: Directives) -> CoordinatorState:
        self.told.append(directives)
        return await self.state(0, 0)


@in_virtual_time
async def test_silent_coordinators_delay_no_other_run() -> None:
    cluster = await _training(*(f"silent-{number}" for number in range(SILENT)), "tiny")
    queue: WorkQueue[Key] = WorkQueue(random.Random(0))
    watchers = CoordinatorPoller(Silent, queue.add)
    metrics = RunMetrics(Metrics().registry)
    services = services_of(cluster, cluster.clock, queue.add)
    controller = TrainingRunController(services, watchers, NullRecordingTracker(), DEFAULTS, metrics, RELEASE)
    cache = Cache(controller)
    writer = StatusWriter(controller, cluster, cache, queue, cluster.clock, "operator")
    actor = Actor(controller, cluster, cache)
    reconciler = Reconciler(controller, cluster, cache, queue, actor, writer, cluster.clock, RESYNC_SECONDS)
    substitute = asyncio.Event()
    cluster.watches.append(partial(_is_made, "tiny-w1-1", substitute))
    for kind, handler in Handlers(controller, cache, queue).watches().items():
        for body in cluster.all(kind):
            if body["metadata"]["name"].startswith("silent") and kind == controller.kind:
                body["spec"]["suspend"] = True
            await handler({"type": None, "object": body})
    Silent.told.clear()
    cluster.bury(POD, "tiny-w1-0")
    working = asyncio.create_task(queue.run(8, reconciler))
    await asyncio.wait_for(substitute.wait(), 1)
    assert len(Silent.told) == SILENT, "they were asked to save"
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await watchers.close()


async def _training(*names: str) -> FakeCluster:
    """A cluster in which runs of these names train; each is a copy of the first."""
    world = await running()
    cluster = FakeCluster(world.clock, kinds=world.cluster.kinds)
    for name in names:
        for body in world.cluster.objects.values():
            text = json.dumps(body).replace("tiny", name).replace('"uid-', f'"{name}-uid-')
            cluster.put(json.loads(text))
    return cluster


def _is_made(name: str, made: asyncio.Event, event: str, body: Json) -> None:
    if event == "ADDED" and travelled(body)["metadata"]["name"] == name:
        made.set()
