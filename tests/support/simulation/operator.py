"""One replica of the operator: its own machinery, led by the real Lease."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from footplate_operator.errors import LeadershipLost
from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.fence import FencedCluster
from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.leader import Leadership
from footplate_operator.runtime.metrics import Metrics
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.reconcile import Reconciler
from footplate_operator.runtime.status_writer import StatusWriter
from footplate_operator.runtime.workqueue import WorkQueue
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.coordinator_client import CoordinatorEndpoint, CoordinatorPoller
from footplate_operator.trainingrun.history_client import RecordingPoller
from footplate_operator.trainingrun.metrics import RunMetrics
from tests.support.operator_fakes import DEFAULTS, RELEASE, services_of
from tests.support.simulation.api_server import Client, Watches
from tests.support.simulation.coordinator import SimulatedClient
from tests.support.simulation.history import SimulatedHistory
from tests.support.simulation.network import Process

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

LEASE_SECONDS: Final = 15.0
RESYNC_SECONDS: Final = 300.0
WORKERS: Final = 8
START: Final = 1.0  # seconds from its process to its first request


class OperatorReplica(Process):
    """A process that waits for the Lease, and reconciles while it holds it."""

    def __init__(self, world: Simulation, name: str, place: str) -> None:
        super().__init__(world.network, place, name)
        self.world = world
        self.leads = False
        self.clock = timedelta(seconds=world.operators_clock)
        self.watches: Watches | None = None
        self.spawn(self._operate())

    def now(self) -> datetime:
        """As its own clock says."""
        return self.world.clock() + self.clock

    def kill(self) -> None:
        """It does nothing more."""
        super().kill()
        self.leads = False
        if self.watches is not None:
            self.watches.close()
            self.watches = None

    async def _operate(self) -> None:
        world = self.world
        await self.sleep(START)
        client = Client(world.api, self)
        lease = Leadership(client, "footplate", "footplate-operator", self.name, LEASE_SECONDS, self.now)
        await lease.acquire()
        cluster = FencedCluster(client, lease.check)
        self.leads = True
        queue: WorkQueue[Key] = WorkQueue(random.Random(world.chance.random()))
        watchers = CoordinatorPoller(self._connect, queue.add, lease.check)
        metrics = Metrics()
        askers = RecordingPoller(SimulatedHistory(world, self), queue.add)
        told = RunMetrics(metrics.registry)
        services = services_of(cluster, self.now, queue.add)
        controller = TrainingRunController(services, watchers, askers, DEFAULTS, told, RELEASE)
        cache = Cache(controller)
        writer = StatusWriter(controller, cluster, cache, queue, self.now, self.name)
        actor = Actor(controller, cluster, cache)
        reconciler = Reconciler(controller, cluster, cache, queue, actor, writer, self.now, RESYNC_SECONDS)

        async def work(key: Key) -> None:
            await self.going()
            await reconciler(key)

        self.watches = Watches(world.api, self, Handlers(controller, cache, queue).watches())
        works = (lease.renew_forever(), queue.run(WORKERS, work), services.usage.run())
        tasks = [asyncio.ensure_future(own) for own in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except LeadershipLost:
            world.ended_by_itself(self)
        finally:
            for task in tasks:
                task.cancel()
            await watchers.close()
            await askers.close()

    def _connect(self, endpoint: CoordinatorEndpoint) -> SimulatedClient:
        return SimulatedClient(self.world, self, endpoint)
