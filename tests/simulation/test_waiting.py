"""Runs that wait for room: for as long as it takes, holding nothing, one gang at a time."""

from __future__ import annotations

import random

import pytest

from footplate_contracts.names import ROLE_LABEL
from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import POD, PRIORITY_CLASS, Json
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.operator_fakes import run_manifest
from tests.support.simulation.stories import training
from tests.support.simulation.world import CHECKPOINT, Simulation, simulated

HOUR = 3600.0


def _apply(world: Simulation, name: str, nodes: int, steps: int = 20, **spec: object) -> None:
    checkpoint = CHECKPOINT | {"uri": f"/shared/{name}"}
    compute = {"profile": "local-cpu", "nodes": nodes}
    length = run_manifest()["spec"]["training"] | {"steps": steps}
    world.apply(name, compute=compute, checkpoint=checkpoint, training=length, **spec)


def _workers(world: Simulation, run: str) -> list[Json]:
    """Worker pods of `run` that have not ended."""
    return [
        pod
        for pod in world.objects.all(POD)
        if pod["metadata"]["labels"].get("footplate.dev/run") == run
        and pod["metadata"]["labels"].get(ROLE_LABEL) == "worker"
        and pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]


def _bound(world: Simulation, run: str) -> list[str]:
    return [pod["spec"]["nodeName"] for pod in _workers(world, run) if pod["spec"].get("nodeName")]


def _condition(world: Simulation, run: str, kind: str = "Progressing") -> Json:
    status = world.objects.objects[TRAINING_RUN, run].get("status", {})
    return next((known for known in status.get("conditions", []) if known["type"] == kind), {})


def _leave_room_for_a_coordinator(world: Simulation) -> None:
    """Take all nodes away but one without a slot for workers."""
    world.nodes.by_name["node-0"].slots = 0
    for name in world.nodes.by_name:
        if name != "node-0":
            world.nodes.objects.delete(name)


@pytest.mark.long
@simulated(nodes=3)
async def test_a_run_waits_three_hours_for_nodes_and_then_trains(world: Simulation) -> None:
    _leave_room_for_a_coordinator(world)
    world.apply()
    await world.until(lambda: len(_workers(world, "tiny")) == 2, 60)
    for _ in range(180):
        await world.until_seconds(60.0)
        assert world.phase == "Queued" and len(_workers(world, "tiny")) == 2
    told = world.condition("Progressing")
    assert told["reason"] == "Unschedulable"
    assert told["message"].startswith("2 of 2 workers have no node, waiting since 20")
    for node in ("node-1", "node-2"):
        world.nodes.objects.register(node)
    assert await world.until_steps(1, 60) <= 15
    await world.until(lambda: world.phase == "Succeeded", 200)
    assert world.status["wallSeconds"]["queued"] > 3 * HOUR


@simulated(nodes=3)
async def test_a_pool_that_grows_after_forty_minutes_is_trained_on_at_once(world: Simulation) -> None:
    _leave_room_for_a_coordinator(world)
    world.apply()
    await world.until_seconds(2400.0)
    world.nodes.objects.register("node-1")
    await world.until_seconds(20.0)
    world.nodes.objects.register("node-2")
    assert await world.until_steps(1, 60) <= 15


@simulated(nodes=4)
async def test_a_gang_without_enough_nodes_releases_them_after_a_minute(world: Simulation) -> None:
    _apply(world, "tiny", nodes=6)
    await world.until(lambda: len(_bound(world, "tiny")) == 4, 60)
    assert await world.until(lambda: not _bound(world, "tiny"), 120) <= 70
    told = _condition(world, "tiny")
    assert (
        told["reason"] == "GangIncomplete" and "retries when a Node is added or a run ends" in told["message"]
    )
    held = 0
    for _ in range(1800):
        await world.until_seconds(1.0)
        held += bool(_bound(world, "tiny"))
    assert held <= 5 * 70, "a try every ten minutes at the latest, a minute each"
    assert world.phase == "Queued" and len(world.status["attempts"]) == 1
    assert not world.status.get("failures") and not world.status.get("restarts")


@pytest.mark.parametrize(
    ("seed", "gangs", "size", "nodes"),
    [
        pytest.param(0, 4, 2, 5, id="four-of-two-on-five"),
        *(
            pytest.param(seed, 10, 4, 9, id=f"ten-of-four-on-nine-{seed}", marks=pytest.mark.long)
            for seed in range(20)
        ),
    ],
)
def test_gangs_share_nodes_that_are_too_few(seed: int, gangs: int, size: int, nodes: int) -> None:
    lengths = [random.Random(f"{seed}.{number}").randint(120, 120 + 28 * gangs) for number in range(gangs)]

    @simulated(nodes=nodes, seed=seed)
    async def play(world: Simulation) -> None:
        for number, steps in enumerate(lengths):
            _apply(world, f"run-{number}", nodes=size, steps=steps)
        holds: dict[str, float] = {}
        runs = [f"run-{number}" for number in range(gangs)]

        def done() -> bool:
            for run in runs:
                partly = 0 < len(_bound(world, run)) < size and world.phase_of(run) in ("", "Queued")
                holds[run] = holds.get(run, world.seconds()) if partly else world.seconds()
                assert world.seconds() - holds[run] <= 62, f"{run} holds nodes"
            return all(world.phase_of(run) == "Succeeded" for run in runs)

        took = await world.until(done, 4 * HOUR)
        assert took <= 1.2 * _list_scheduled(lengths, 2), (took, _list_scheduled(lengths, 2))

    play()


def _list_scheduled(lengths: list[int], machines: int) -> float:
    """Makespan where each next gang starts as soon as one has ended, without any delay."""
    loads = [0.0] * machines
    for length in lengths:
        loads[loads.index(min(loads))] += length
    return max(loads)


@simulated(nodes=6)
async def test_a_substitute_comes_before_gangs_that_wait(world: Simulation) -> None:
    world.nodes.by_name["node-5"].slots = 0
    _apply(world, "tiny", nodes=4, steps=200)
    await world.until(lambda: world.phase == "Running", 60)
    for name in ("ann", "ben", "carl"):
        _apply(world, name, nodes=3)
        await world.until_seconds(2.0)  # times of creation are of whole seconds
    await world.until(lambda: bool(_bound(world, "ann")), 60)
    place = world.node_of("tiny-w1-0")
    world.power_off(place)
    await world.until(lambda: world.phase == "Restarting", 60)
    await world.until(lambda: world.phase == "Running", 60)
    names = [pod["metadata"]["name"] for pod in _workers(world, "tiny")]
    substitute = max(name for name in names if name.startswith("tiny-w1-"))
    assert substitute != "tiny-w1-0" and world.node_of(substitute) != place
    for place_in_line, name in enumerate(("ann", "ben", "carl"), 1):
        assert f"place {place_in_line} of 3" in _condition(world, name)["message"]
    assert world.status["restarts"] == 1


@simulated(nodes=4)
async def test_a_higher_priority_goes_before_an_older_gang(world: Simulation) -> None:
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}}
    world.objects.put({**body, "value": 1000})
    assert PRIORITY_CLASS.name == body["kind"]
    _apply(world, "tiny", nodes=4, steps=60)
    await world.until(lambda: world.phase == "Running", 60)
    _apply(world, "ann", nodes=2)
    await world.until_seconds(5.0)
    _apply(world, "ben", nodes=4)
    _apply(world, "dora", nodes=4, priorityClassName="urgent")
    await world.until(lambda: world.phase_of("dora") == "Running", 300)
    assert world.phase_of("ben") == "Queued"
    for name in ("ann", "ben", "dora"):
        await world.until(lambda name=name: world.phase_of(name) == "Succeeded", 900)


@simulated(nodes=4)
async def test_a_quota_that_refuses_half_of_a_gang_keeps_none_of_it(world: Simulation) -> None:
    refusal = 'pods "tiny-w" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8'

    def admit(body: Json) -> Exception | None:
        full = _is_worker(body) and len(_workers(world, "tiny")) >= 2
        return RequestForbidden(refusal, 403) if full else None

    world.objects.admit = admit
    _apply(world, "tiny", nodes=4)
    await world.until(
        lambda: world.phase == "Queued" and "exceeded quota" in _condition(world, "tiny")["message"], 60
    )
    await world.until(lambda: not _workers(world, "tiny"), 20)
    assert _condition(world, "tiny")["reason"] == "QuotaExceeded"
    world.objects.admit = None
    await world.until(lambda: world.phase == "Succeeded", 900)


def _is_worker(body: Json) -> bool:
    return body["kind"] == "Pod" and body["metadata"]["labels"].get(ROLE_LABEL) == "worker"


@simulated(nodes=3)
async def test_the_announcement_of_new_nodes_extends_the_deadline(world: Simulation) -> None:
    _leave_room_for_a_coordinator(world)
    world.nodes.by_name["node-0"].slots = 1
    world.apply()
    await world.until(lambda: len(_bound(world, "tiny")) == 1, 60)
    waiting = next(pod for pod in _workers(world, "tiny") if not pod["spec"].get("nodeName"))
    about = {"kind": "Pod", "name": waiting["metadata"]["name"], "uid": waiting["metadata"]["uid"]}
    world.objects.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "scale-up", "namespace": "default"},
            "involvedObject": about,
            "reason": "TriggeredScaleUp",
            "message": "pod triggered scale-up: [{gpu-pool 1->2 (max: 8)}]",
        }
    )
    await world.until_seconds(600.0)
    assert len(_bound(world, "tiny")) == 1
    world.nodes.objects.register("node-1")
    assert await world.until_steps(1, 60) <= 15


@pytest.mark.long
@simulated(nodes=3)
async def test_a_run_that_restarts_for_two_hours_releases_its_nodes(world: Simulation) -> None:
    await training(world, 2, steps=60)
    world.pace = 20.0  # seconds of a step: a checkpoint takes 200 s of training
    began = world.seconds()
    while world.phase != "Queued":
        await world.until(lambda: world.phase in ("Running", "Queued"), 120)
        await world.until_seconds(100.0)
        if world.phase == "Running":
            world.objects.bury(POD, _workers(world, "tiny")[0]["metadata"]["name"])
            await world.until_seconds(2.0)
        assert world.seconds() - began < 3.2 * HOUR, world.describe()
    assert world.seconds() - began > 1.9 * HOUR
    told = world.condition("Progressing")
    assert told["reason"] == "NoProgress" and "restarts for 2 h without a new durable step" in told["message"]
    await world.until(lambda: not _bound(world, "tiny"), 60)
    await world.until(lambda: world.phase == "Succeeded", 2 * HOUR)
