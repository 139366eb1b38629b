"""Runs that name each other, while operators die and runs go: nothing is lost, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from footplate_operator.runtime.kinds import REVISION, Json
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.operator_fakes import NAME, run_manifest
from tests.support.simulation.stories import training
from tests.support.simulation.world import CHECKPOINT, Simulation, simulated

LENGTH = {**run_manifest()["spec"]["training"], "steps": 20}


def follow(world: Simulation, checkpoint: str, name: str = "next", of: str = NAME) -> None:
    """A run of one node that begins with a checkpoint of another."""
    own = {**CHECKPOINT, "uri": f"/shared/{name}"}
    given = {"run": {"name": of, "checkpoint": checkpoint}}
    compute = {"profile": "local-cpu", "nodes": 1}
    world.apply(name, initFrom=given, checkpoint=own, compute=compute, training=LENGTH)


def lineage(world: Simulation, name: str = "next") -> list[int]:
    """Steps that the run was given."""
    found: Json = world.objects.objects[TRAINING_RUN, name].get("status", {})
    return [entry["step"] for entry in found.get("lineage", [])]


def frozen(world: Simulation, name: str = "next") -> set[int]:
    """Steps in all of its revisions."""
    revisions = [
        body
        for (kind, own), body in world.objects.objects.items()
        if kind == REVISION and own.startswith(name)
    ]
    return {entry["step"] for body in revisions for entry in body["data"]["config"].get("lineage", [])}


def has_phase(world: Simulation, name: str, phase: str) -> bool:
    return world.phase_of(name) == phase


@pytest.mark.parametrize("restarts", [pytest.param(0, marks=pytest.mark.long), 5])
@simulated(nodes=4)
async def test_a_step_is_kept_until_its_follower_has_ended(world: Simulation, restarts: int) -> None:
    world.apply(checkpoint={**CHECKPOINT, "keepLast": 1})
    follow(world, "20")
    await training(world, 2, steps=120)
    for _ in range(restarts):
        await asyncio.sleep(world.chance.uniform(0.5, 6.0))
        world.restart_operator()
    volume = world.volume(world.run["metadata"]["uid"])
    await world.until(lambda: lineage(world) == [20], 120)
    while not has_phase(world, "next", "Succeeded"):
        assert 20 in volume.commits, "it was removed under a run that stands on it"
        await asyncio.sleep(0.5)
    await world.until(lambda: world.phase == "Succeeded", 300)
    assert set(volume.commits) == {120} and frozen(world) == {20}
    assert "followers" not in world.status
    world.check_invariants()


@pytest.mark.parametrize(
    "after",
    [4, 8, 12, *(pytest.param(after, marks=pytest.mark.long) for after in (1, 2, 3, 6, 10, 14, 18, 22))],
)
@simulated(nodes=4)
async def test_an_operator_that_dies_between_two_of_its_calls_gives_one_checkpoint(
    world: Simulation, after: int
) -> None:
    """Between the two of another run's mark that moves, too."""
    world.apply(checkpoint={**CHECKPOINT, "promoted": [{"name": "good", "step": 10}]})
    await training(world, 2, steps=60)
    await world.until(lambda: world.step >= 14, 60)
    world.crash_after(after)
    follow(world, "promoted")
    await asyncio.sleep(0.6)
    world.apply(checkpoint={**CHECKPOINT, "promoted": [{"name": "good", "step": 20}]})
    await world.until(lambda: has_phase(world, "next", "Succeeded"), 300)
    assert len(frozen(world)) == 1 and frozen(world) == set(lineage(world))
    await world.until(lambda: world.phase == "Succeeded", 300)


@pytest.mark.parametrize("killed", [False, True], ids=["operator-lives", "operator-killed"])
@simulated(nodes=4)
async def test_a_run_that_is_created_anew_under_one_that_waits(world: Simulation, killed: bool) -> None:
    follow(world, "latest")
    await training(world, 1, steps=40)
    world.delete()
    await asyncio.sleep(1.0)
    if killed:
        world.restart_operator()
        await asyncio.sleep(5.0)
    status = world.objects.objects[TRAINING_RUN, "next"]["status"]
    assert {found["reason"] for found in status["conditions"]} == {"RunNotFound"}
    world.apply(compute={"profile": "local-cpu", "nodes": 1}, training={**LENGTH, "steps": 30})
    await world.until(lambda: has_phase(world, "next", "Succeeded"), 300)
    assert lineage(world) == [30]


@simulated(nodes=4)
async def test_a_run_that_is_created_anew_at_its_end_gives_what_it_found_there(world: Simulation) -> None:
    await training(world, 1, steps=20)
    await world.until(lambda: world.phase == "Succeeded", 120)
    trained = world.volume(world.run["metadata"]["uid"])
    world.delete()
    follow(world, "latest")
    await world.until(lambda: has_phase(world, "next", "Queued"), 20)
    world.apply(compute={"profile": "local-cpu", "nodes": 1}, training=LENGTH)
    world.share(trained)
    await world.until(lambda: has_phase(world, "next", "Succeeded"), 300)
    assert (lineage(world), world.condition("Complete")["reason"]) == ([20], "NothingToTrain")


@simulated(nodes=4)
async def test_a_chain_runs_to_its_end_though_its_first_run_is_to_go_at_once(world: Simulation) -> None:
    follow(world, "latest", "last", of="next")
    follow(world, "latest")
    world.apply(ttlSecondsAfterFinished=0)
    await training(world, 2, steps=20)
    await world.until(lambda: has_phase(world, "last", "Succeeded"), 300)
    assert (lineage(world), lineage(world, "last")) == ([20], [20])
    assert (TRAINING_RUN, NAME) not in world.objects.objects
