"""Spare pods: made, promoted in the place of a lost worker, made again, given back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import FIRST_SPARE, WorkerId
from footplate_contracts.rendezvous import AgentIdentity
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.gang.plan import promoted
from footplate_operator.trainingrun.observation import Observed, PodView
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World, running


def compute(wanted: int) -> dict[str, Any]:
    return {"profile": "local-cpu", "nodes": 2, "spares": wanted}


async def with_spare() -> World:
    """A run that trains while a spare waits."""
    training = {**run_manifest()["spec"]["training"], "steps": 1000}
    world = await running(training=training, compute=compute(1))
    await world.live(10, until=lambda: world.status["world"]["spares"] == 1)
    return world


def labels(world: World, pod: str) -> tuple[str, str, str]:
    told = world.cluster.objects[POD, pod]["metadata"]["labels"]
    role, index, incarnation = (told[f"footplate.dev/{name}"] for name in ("role", "index", "incarnation"))
    return role, index, incarnation


async def test_a_spare_waits_beside_the_workers_and_is_none_of_them() -> None:
    world = await with_spare()
    assert world.cluster.names(POD) == ["tiny-c1", "tiny-s0-1", "tiny-w0-0", "tiny-w1-0"]
    assert labels(world, "tiny-s0-1") == ("spare", "0", "1")
    env = world.cluster.objects[POD, "tiny-s0-1"]["spec"]["containers"][0]["env"]
    assert {"name": "FOOTPLATE_WORKER_INDEX", "value": "4096"} in env
    assert (world.status["replicas"], world.status["world"]["nodes"]) == (2, 2)


async def test_it_becomes_the_worker_that_was_lost_and_another_spare_is_made() -> None:
    world = await with_spare()
    world.end_pod("tiny-w1-0", 137)
    await world.reconcile()
    assert "tiny-w1-1" not in world.cluster.names(POD), "the spare is faster than any substitute"
    await world.live(10, until=lambda: "tiny-s0-101" in world.cluster.names(POD))
    await world.live(10, until=lambda: world.phase == "Running")
    assert labels(world, "tiny-s0-1") == ("worker", "1", "100")
    await world.live(10, until=lambda: world.status["world"]["spares"] == 1)
    status = world.status
    assert (status["replicas"], status["restarts"], status["failures"]) == (2, 1, {"NodeLost": 1})
    assert [pod for pod in world.cluster.names(POD) if "-w" in pod] == ["tiny-w0-0", "tiny-w1-0"]


async def test_the_promoted_one_is_replaced_like_any_worker() -> None:
    world = await with_spare()
    world.end_pod("tiny-w1-0", 137)
    await world.live(10, until=lambda: "tiny-s0-101" in world.cluster.names(POD))
    world.change(compute=compute(0))
    await world.live(3)
    assert "tiny-s0-101" not in world.cluster.names(POD)
    world.end_pod("tiny-s0-1", 137)
    await world.live(20, until=lambda: "tiny-w1-102" in world.cluster.names(POD))
    await world.live(10, until=lambda: world.phase == "Running")
    assert world.status["restarts"] == 2


@pytest.mark.parametrize(
    ("index", "role"),
    [
        pytest.param(1, "worker", id="it-has-a-place-and-waits-for-the-others"),
        pytest.param(FIRST_SPARE, "spare", id="it-waits-for-a-place"),
    ],
)
def test_a_spare_is_a_worker_from_the_moment_it_has_a_place(index: int, role: str) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    pod = PodView(name="tiny-s0-1", uid="u", owner_uid="r", role="spare", created=now, incarnation=1)
    agent = AgentIdentity(
        index=index, incarnation=100, pod_name=pod.name, address="10.0.0.1", local_world_size=2
    )
    told = CoordinatorState(version=1, epoch=1, state=RunState.GATHERING, waiting=[agent])
    found = promoted([pod], told)
    assert [worker.worker for worker in found] == ([WorkerId(1, 100)] if role == "worker" else [])
    assert [seen.role for seen in Observed(pods=(pod,)).with_pods(found).pods] == [role]


async def test_a_spare_that_ends_is_made_again_and_interrupts_nobody() -> None:
    world = await with_spare()
    world.end_pod("tiny-s0-1", 137)
    await world.live(5, until=lambda: "tiny-s0-2" in world.cluster.names(POD))
    assert (world.phase, world.status["restarts"]) == ("Running", 0)


async def test_without_a_coordinator_a_substitute_does_not_wait_for_the_spare() -> None:
    world = await with_spare()
    world.end_pod("tiny-c1", 137)
    world.end_pod("tiny-w1-0", 137)
    await world.live(2)
    assert "tiny-w1-2" in world.cluster.names(POD)


async def test_spares_go_with_a_suspension_and_with_the_end() -> None:
    world = await with_spare()
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    await world.live(5)
    assert not [pod for pod in world.cluster.names(POD) if "-s" in pod]
    world.change(suspend=False)
    await world.live(30, until=lambda: world.phase == "Running")
    world.coordinator().total_steps = world.coordinator().step + 5
    await world.live(30, until=lambda: world.phase == "Succeeded")
    await world.live(20)
    live = [pod for pod in world.cluster.all(POD) if pod["status"].get("phase") == "Running"]
    assert live == []
