"""Runs as the previous release left them: played by its own operator, in its own tests' small world.

`python stories.py FOLDER` writes one file for each story. It is run with the checkout of that release
before everything else on its path, so it imports nothing that is not there.

A story ends where its operator has nothing to do until somebody else acts: started anew, it makes, changes
and deletes no child. Whoever takes over should find the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import Cause, Reason
from footplate_operator.api_access import ApiAccess
from footplate_operator.runtime.kinds import POD, REVISION, Json
from tests.support.fake_cluster import copied, travelled
from tests.support.operator_fakes import EVERY_STEPS, FakeCoordinator, profile_manifest, run_manifest
from tests.support.operator_world import World, running

Story = Callable[[], Awaitable[World]]
STORIES: Final[dict[str, Story]] = {}
LONG: Final = {**run_manifest()["spec"]["training"], "steps": 10_000}
_COORDINATORS: Final = TypeAdapter(dict[str, FakeCoordinator])


def story(play: Story) -> Story:
    """One of them, called as its function."""
    STORIES[play.__name__.replace("_", "-")] = play
    return play


def compute(nodes: int = 2, **more: Any) -> Json:
    """The compute section of a spec."""
    return {"profile": "local-cpu", "nodes": nodes, **more}


async def trains(**spec: Any) -> World:
    """A run that has trained for a while, and is far from its end."""
    world = await running(**{"training": LONG, **spec})
    await world.live(5)
    return world


# -- before it trains ----------------------------------------------------------------------


@story
async def queued_without_a_profile() -> World:
    world = World()
    world.submit(compute=compute() | {"profile": "gone"})
    await world.live(5)
    return world


@story
async def queued_after_its_gang_was_given_back() -> World:
    world = await trains(resilience={"gatherDeadlineSeconds": 60})
    world.end_pod("tiny-w1-0", 137)
    await world.live(20, until=lambda: "tiny-w1-1" in world.cluster.names(POD))
    world.kubelet_works = False
    await world.live(120, until=lambda: world.phase == "Queued")
    world.kubelet_works = True
    await world.live(20)
    return world


@story
async def created_suspended() -> World:
    world = World()
    world.submit(training=LONG, suspend=True)
    await world.live(5)
    return world


def _bind(world: World, *pods: str) -> None:
    """Give each pod a node whose kubelet accepts it and starts no container.

    The operator queues a gang that is not bound, and replaces a pod that no kubelet accepts within seconds.
    """
    for name in pods:
        pod = copied(world.cluster.objects[POD, name])
        pod["spec"]["nodeName"] = world.node_of(name)
        pod["status"] = {"phase": "Pending", "startTime": world.clock().isoformat()}
        world.cluster.put(pod)


@story
async def starting_without_a_coordinator() -> World:
    world = World()
    world.kubelet_works = False
    world.submit(training=LONG)
    await world.reconcile()
    _bind(world, "tiny-c1")
    await world.live(5)
    assert world.phase == "Starting"
    return world


@story
async def starting_without_a_worker() -> World:
    world = World()
    world.submit(training=LONG)
    await world.reconcile()
    world.start_pod("tiny-c1", "10.0.0.1")
    await world.reconcile()
    _bind(world, "tiny-w0-0", "tiny-w1-0")
    world.kubelet_works = False
    await world.live(5)
    assert world.phase == "Starting"
    return world


# -- while it trains -----------------------------------------------------------------------


@story
async def training() -> World:
    return await trains()


@story
async def training_and_vouched_for() -> World:
    world = World()
    world.api = ApiAccess("https://api:8443", bundle=lambda: "a certificate\n")
    world.start_operator()
    world.submit(training=LONG)
    await world.live(30, until=lambda: world.phase == "Running")
    return world


@story
async def training_with_all_that_a_spec_says() -> World:
    return await trains(
        parallelism={"tensor": 2},
        resilience={
            "gatherDeadlineSeconds": 900,
            "restartLimits": {"UserError": 2},
            "excludeNodes": ["broken-1"],
            "hang": {"factor": 2.5, "floorSeconds": 120},
        },
        checkpoint={
            "uri": "/shared/checkpoints",
            "everySteps": EVERY_STEPS,
            "keepLast": 2,
            "emergencyDeadlineSeconds": 120,
        },
        priorityClassName="urgent",
        trainer={
            "image": "mine:2",
            "env": [{"name": "OMP_NUM_THREADS", "value": "4"}],
            "resources": {"requests": {"cpu": "16"}, "limits": {"memory": "100Gi"}},
            "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            "serviceAccountName": "reader",
            "podLabels": {"team": "a"},
            "podAnnotations": {"note": "mine"},
        },
        podRetentionSeconds=60,
        ttlSecondsAfterFinished=3600,
    )


@story
async def training_with_fewer_nodes_than_asked() -> World:
    world = await trains(compute=compute(nodes=3, minNodes=1, maxNodes=4))
    world.kubelet_works = False
    world.cluster.bury(POD, "tiny-w2-0")
    await world.live(60, until=lambda: world.phase == "Running" and world.status["world"]["nodes"] == 2)
    await world.live(5)
    return world


@story
async def training_with_a_spare() -> World:
    world = await trains(compute=compute(spares=1))
    await world.live(10, until=lambda: world.status["world"]["spares"] == 1)
    return world


@story
async def training_with_a_spare_that_became_a_worker() -> World:
    world = await training_with_a_spare()
    world.end_pod("tiny-w1-0", 137)
    await world.live(10, until=lambda: "tiny-s0-101" in world.cluster.names(POD))
    await world.live(30, until=lambda: world.phase == "Running" and world.status["world"]["spares"] == 1)
    await world.live(5)
    return world


@story
async def training_after_a_lost_node() -> World:
    world = await trains()
    world.end_pod("tiny-w1-0", 137)
    await world.live(60, until=lambda: "tiny-w1-1" in world.cluster.names(POD) and world.phase == "Running")
    await world.live(5)
    return world


@story
async def training_under_its_second_coordinator() -> World:
    world = await trains()
    world.cluster.bury(POD, "tiny-c1")
    await world.live(60, until=lambda: "tiny-c2" in world.cluster.names(POD) and world.phase == "Running")
    await world.live(5)
    return world


@story
async def training_by_an_older_spec() -> World:
    world = await trains()
    world.change(training={**LONG, "optimizer": {"learningRate": 0.002}})
    await world.live(5)
    return world


@story
async def training_by_an_older_profile() -> World:
    world = await trains()
    profile = profile_manifest(processesPerNode=1)
    world.cluster.put(profile)
    await world.live(5)
    return world


@story
async def training_within_a_budget() -> World:
    world = World()
    price = {"profile": "local-cpu", "dollarsPerNodeHour": 36, "effectiveFrom": "2026-01-01T00:00:00Z"}
    world.cluster.put(
        {
            "apiVersion": "footplate.dev/v1alpha1",
            "kind": "PriceEntry",
            "metadata": {"name": "first", "namespace": "", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": price,
        }
    )
    world.submit(training=LONG, budget={"dollars": 1000})
    await world.live(30, until=lambda: world.phase == "Running")
    await world.live(90)
    return world


@story
async def training_since_it_was_resumed() -> World:
    world = await trains()
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    world.change(suspend=False, training={**LONG, "optimizer": {"learningRate": 0.002}})
    await world.live(60, until=lambda: world.phase == "Running")
    await world.live(5)
    assert world.cluster.names(REVISION) == ["tiny-1", "tiny-2"]
    return world


@story
async def checkpointing() -> World:
    world = await trains()
    world.trains = False
    coordinator = world.coordinator()
    usual = coordinator.view

    def saves(now: float) -> CoordinatorState:
        said = usual(now)
        return said.model_copy(update={"progress": said.progress.model_copy(update={"saving": True})})

    coordinator.view = saves
    await world.live(10, until=lambda: world.phase == "Checkpointing")
    return world


# -- when something happens to it ----------------------------------------------------------


@story
async def restarting() -> World:
    world = await trains()
    world.kubelet_works = False
    world.end_pod("tiny-w1-0", 137)
    await world.live(20, until=lambda: "tiny-w1-1" in world.cluster.names(POD))
    await world.live(5)
    return world


@story
async def suspending() -> World:
    world = await trains()
    world.trains = False
    world.change(suspend=True)
    await world.live(5)
    return world


@story
async def suspended() -> World:
    world = await trains()
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    await world.live(60)
    return world


# -- after its end -------------------------------------------------------------------------


@story
async def succeeded() -> World:
    world = await running()
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    return world


@story
async def succeeded_and_to_be_deleted() -> World:
    world = await running(ttlSecondsAfterFinished=3600)
    world.histories.missing = "it was not asked"
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(60)
    return world


@story
async def failed() -> World:
    world = World()
    world.trains = False
    world.submit(training=LONG)
    await world.live(3)
    pod = world.cluster.objects[POD, "tiny-w0-0"]
    seconds = world.clock().timestamp()
    world.coordinator().fail(Cause.IMAGE_OR_CONFIG, Reason.DATA_MISSING, "no such folder", pod, seconds)
    await world.live(30, until=lambda: world.phase == "Failed")
    await world.live(60)
    return world


# -- writing ---------------------------------------------------------------------------------


def stand_still(world: World) -> None:
    """Only the operator acts from now on."""
    world.kubelet_works = world.trains = False
    world._train = lambda: None


async def _is_at_rest(name: str, world: World) -> None:
    """Fails unless an operator that is started now leaves every child as it is."""
    stand_still(world)
    world.cluster.calls.clear()
    world.start_operator()
    await world.live(5)
    others = ("TrainingRun", "Usage", "Event")
    touched = [call for call in world.cluster.calls if not any(kind in call for kind in others)]
    assert not touched, f"{name}: {touched}"


def _written(world: World) -> Json:
    objects = [
        body for (kind, _), body in sorted(world.cluster.objects.items(), key=str) if kind.name != "Event"
    ]
    return {
        "now": world.clock().isoformat(),
        "phase": world.phase,
        "objects": objects,
        "coordinators": _COORDINATORS.dump_python(world.coordinators, mode="json", by_alias=True),
        "saved": {uid: record.to_json() for uid, record in world.saved.items()},
    }


def _lines(written: Json) -> str:
    """JSON with one line for each object."""
    members = []
    for name, value in written.items():
        if isinstance(value, list):
            value = "[\n " + ",\n ".join(json.dumps(item) for item in value) + "\n]"
        else:
            value = json.dumps(value)
        members.append(f"{json.dumps(name)}: {value}")
    return "{" + ",\n".join(members) + "}\n"


async def _play(folder: Path) -> None:
    for name, play in STORIES.items():
        world = await play()
        written = travelled(_written(world))
        await _is_at_rest(name, world)
        (folder / f"{name}.json").write_text(_lines(written))
        print(f"{name}: {written['phase']}, {len(written['objects'])} objects")


if __name__ == "__main__":
    asyncio.run(_play(Path(sys.argv[1])))
