"""CPU seconds of decisions of the operator about a gang of any size."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from footplate_operator.errors import ClusterError, OperatorError
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.desired.run import decide
from tests.support.growth import Stopwatch
from tests.support.operator_fakes import KEY, run_manifest
from tests.support.operator_world import World
from tests.support.pod_usage import node

ENDED: Final = 0.9  # part of the workers


class Machines(World):
    """A world where each pod has a node of its own."""

    def node_of(self, pod: str) -> str:
        return f"node-of-{pod}"


async def gang(size: int) -> Machines:
    """A run of so many workers that trains."""
    world = Machines()
    training = {**run_manifest()["spec"]["training"], "steps": 10**6, "globalBatchSize": 4 * size}
    world.submit(training=training, compute={"profile": "local-cpu", "nodes": size})
    await world.live(30, until=lambda: world.phase == "Running")
    return world


async def end_most(world: Machines) -> None:
    """Let nine of ten workers end, and the coordinator and the watch tell so."""
    workers = world.workers()
    for name in workers[: int(ENDED * len(workers))]:
        world.end_pod(name, 137)
    world.pass_unseen(0.5)
    world._speak()
    await world.watches.deliver(world.handlers)


async def cost_of_reconciliation(world: Machines) -> float:
    """A whole one, once the coordinator has news."""
    world.clock.advance(2)
    world.coordinator().version += 1
    world._speak()
    watch = Stopwatch()
    with watch:
        await world.reconciler(KEY)
    return watch.seconds


async def cost_of_refused_pods(world: Machines) -> float:
    """One where the API server makes no pod, so that each time all of them are to be made."""
    world.cluster.refuse["create", POD] = ClusterError("try again", 503, "ServiceUnavailable")
    watch = Stopwatch()
    with watch, suppress(OperatorError):
        await world.reconciler(KEY)
    del world.cluster.refuse["create", POD]
    return watch.seconds


async def cost_of_desire(world: Machines) -> float:
    """The decision alone, the least of three."""
    controller, now = world.reconciler.controller, world.clock()
    run = controller.decode(world.run)
    view = await controller.observe(run, world.cache.children(run.namespace, run.uid), now, ())
    seconds = []
    for _ in range(3):
        watch = Stopwatch()
        with watch:
            decide(run, view.revision, view.observed, now)
        seconds.append(watch.seconds)
    return min(seconds)


async def cost_of_news_of_nodes(world: Machines) -> float:
    """The watch's events, once something has changed on the Node of each worker."""
    taint = {"key": "heat", "value": str(world.clock()), "effect": "PreferNoSchedule"}
    world.clock.advance(2)
    for name in map(world.node_of, world.workers()):
        body = node(name, "2026-01-31T12:00:00Z", taints=[taint])
        body["metadata"]["uid"] = name
        world.cluster.put(body)
    watch = Stopwatch()
    with watch:
        await world.watches.deliver(world.handlers)
    return watch.seconds
