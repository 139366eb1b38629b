"""The simulation sees what must never be."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.directives import Limits
from footplate_contracts.names import Cause
from footplate_contracts.reports import GenerationId
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.fake_cluster import travelled
from tests.support.matrix import CELLS, FAULTS, Phase, applicable, may_end
from tests.support.operator_fakes import NAME
from tests.support.simulation.memory import State
from tests.support.simulation.stories import training
from tests.support.simulation.world import Simulation, simulated


def _write(world: Simulation, **status: Any) -> None:
    """Somebody writes into the status what the operator never would."""
    body = travelled(world.objects.objects[TRAINING_RUN, NAME])
    body["status"] |= status
    world.objects.put(body)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"restarts": 1}, "1 restarts after 2"),
        ({"failures": {"Hang": 1}}, "1 failures after 2"),
        ({"wallSeconds": {"queued": 0.0}}, "status.wallSeconds.queued went from"),
        ({"wallSeconds": {"queued": 9000.0}}, "status.wallSeconds adds up to"),
        ({"phase": "Suspended"}, "but 0 is durable"),
    ],
)
@simulated()
async def test_a_status_that_cannot_be_is_noticed(
    world: Simulation, status: dict[str, Any], says: str
) -> None:
    await training(world, 2)
    _write(world, restarts=2, failures={"Hang": 1, "NodeLost": 1})
    said = "step 3 is durable"
    _write(world, phase="Suspending", attempts=[{**world.status["attempts"][-1], "message": said}])
    assert not world.invariants.broken
    known = world.status
    _write(world, **{name: {**known[name], **new} if name == "time" else new for name, new in status.items()})
    assert any(says in broken for broken in world.invariants.broken), world.invariants.broken


@simulated()
async def test_a_phase_after_the_last_one_is_noticed(world: Simulation) -> None:
    await training(world, 2)
    await world.until(lambda: world.phase == "Succeeded", 300)
    assert not world.invariants.broken
    _write(world, phase="Running")
    assert any("Running after Succeeded" in broken for broken in world.invariants.broken)


@simulated(nodes=4)
async def test_a_superseded_pod_that_stays_is_noticed(world: Simulation) -> None:
    await training(world, 2)
    older = travelled(world.objects.objects[POD, "tiny-w1-0"])
    older["metadata"] |= {"name": "tiny-w1-9", "uid": "another"}
    older["metadata"]["labels"] |= {"footplate.dev/incarnation": "9", "footplate.dev/run": "another"}
    world.objects.put(older)  # newer than the one that trains, and no pod that the operator knows
    await world.until_seconds(90)
    assert any("tiny-w1-0 was superseded" in broken for broken in world.invariants.broken)


@simulated()
async def test_a_pod_that_is_deleted_by_force_is_noticed(world: Simulation) -> None:
    await training(world, 2)
    world.check_invariants()
    await world.objects.delete(POD, "default", "tiny-w1-0", grace=0)
    with pytest.raises(AssertionError, match="by force while they ran"):
        world.check_invariants()


@simulated()
async def test_a_step_that_two_generations_commit_is_noticed(world: Simulation) -> None:
    world.apply()
    volume, first = world.volume("uid"), GenerationId(epoch=1, number=1)
    state = State((first,) * 10)
    limits = Limits(steps=20, every_steps=10, keep_last=3)
    volume.commit(state, first, 0.0, limits)
    volume.commit(state, first, 0.0, limits)
    assert not volume.twice
    volume.commit(state, GenerationId(epoch=1, number=2), 0.0, limits)
    assert volume.twice == ["step 10 by 1.2, after 1.1"]


def test_a_run_may_end_of_what_its_restart_limits_do_not_allow_and_of_nothing_else() -> None:
    nan, oom, full, killed = (
        FAULTS[name] for name in ("NaN loss", "rank out of memory", "volume full", "rank killed")
    )
    assert may_end([killed] * 9) == frozenset()
    assert may_end([nan, nan]) == frozenset()
    assert may_end([nan, nan, nan]) == {Cause.NUMERICAL_DIVERGENCE}
    assert may_end([oom, oom, killed]) == {Cause.OUT_OF_MEMORY}
    assert may_end([full]) == {Cause.STORAGE}
    assert may_end([FAULTS["rank stopped"]] * 4) == {Cause.NO_PROGRESS}


def test_there_are_enough_cells_and_a_reason_for_each_that_is_not() -> None:
    every = [(fault, phase) for fault in FAULTS.values() for phase in Phase]
    assert len(CELLS) >= 120
    assert all(applicable(*cell) for cell in every if cell not in CELLS)
