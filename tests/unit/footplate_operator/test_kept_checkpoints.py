"""What a status says of checkpoints that stay: all of them, the best, and those that bear a mark."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, Progress, RunState
from footplate_contracts.names import Role
from footplate_contracts.reports import CheckpointRecord, GenerationId, RetainedCheckpoint
from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import REVISION
from footplate_operator.trainingrun.gang import retirement
from footplate_operator.trainingrun.observation import Observed, PodView
from footplate_operator.trainingrun.run import Run, decode
from footplate_operator.trainingrun.status.observed_fields import update_ended_status
from tests.support.fake_cluster import copied
from tests.support.operator_fakes import KEY, run_manifest
from tests.support.operator_world import World, running

FOLDER = "/shared/checkpoints"
NOW = datetime(2026, 1, 31, 13, tzinfo=UTC)
COORDINATOR = PodView(
    name="c", uid="c", owner_uid="run", role=Role.COORDINATOR, created=NOW, phase="Running", started=True
)


def standing(step: int, loss: float | None = None, number: int = 1) -> RetainedCheckpoint:
    generation = GenerationId(epoch=1, number=number)
    return RetainedCheckpoint(step=step, generation=generation, digest=f"{step:064x}", validation_loss=loss)


def record(*found: RetainedCheckpoint) -> CheckpointRecord:
    newest = found[0]
    return CheckpointRecord(
        step=newest.step,
        uri=f"{FOLDER}/step-{newest.step}.e1g{newest.generation.number}",
        time=1.7e9,
        generation=newest.generation,
        digest=newest.digest,
        standing=list(found),
    )


async def told(world: World, newest: CheckpointRecord) -> None:
    """The coordinator says that a checkpoint is durable, and the operator acts upon it."""
    (uid,) = world.heard
    world.heard[uid] = world.heard[uid].model_copy(update={"checkpoint": newest})
    await looks(world)


async def looks(world: World) -> None:
    world.clock.advance(60)
    world.queue.add(KEY)
    await world.reconcile()


def marks(world: World, *promoted: tuple[str, int]) -> None:
    """Somebody sets these marks, and takes all others away."""
    marked = [{"name": name, "step": step} for name, step in promoted]
    world.change(checkpoint={"uri": FOLDER, "everySteps": 10, "promoted": marked})


def has_phase(world: World, phase: str) -> bool:
    return world.phase == phase


async def test_all_that_stay_are_listed_and_the_best_is_named() -> None:
    world = await running()
    await told(world, record(standing(30, 2.5, number=3), standing(20, 2.0, number=2), standing(10, 2.0)))

    shown = world.status["checkpoint"]
    assert (shown["latestStep"], shown["bestStep"]) == (30, 20)
    assert [(found["step"], found["generation"]) for found in shown["kept"]] == [
        (30, "1.3"),
        (20, "1.2"),
        (10, "1.1"),
    ]
    assert [found["validationLoss"] for found in shown["kept"]] == [2.5, 2.0, 2.0]


@pytest.mark.parametrize("losses", [(None, None), (float("nan"), float("inf"))])
async def test_without_numbers_there_is_no_best(losses: tuple[float | None, ...]) -> None:
    world = await running()
    await told(world, record(*(standing(30 - place, loss) for place, loss in enumerate(losses))))
    assert "bestStep" not in world.status["checkpoint"]
    assert all("validationLoss" not in found for found in world.status["checkpoint"]["kept"])


async def test_what_stood_is_still_told_where_storage_did_not_say() -> None:
    world = await running()
    marks(world, ("good", 20))
    await told(world, record(standing(30, 2.0), standing(20, 1.0)))
    before = world.status["checkpoint"]
    await told(world, record(standing(40)).model_copy(update={"standing": None}))
    after = world.status["checkpoint"]
    assert (before["latestStep"], after["latestStep"]) == (30, 40)
    assert [after[name] for name in ("kept", "bestStep", "promoted")] == [
        before[name] for name in ("kept", "bestStep", "promoted")
    ]


async def test_a_mark_is_told_to_the_ranks_and_shown_with_what_bears_it() -> None:
    world = await running()
    await told(world, record(standing(30), standing(20, number=2)))
    marks(world, ("good", 20), ("newest", 30), ("gone", 10))
    await looks(world)

    limits = world.coordinator().directives.limits
    assert limits is not None and limits.kept_steps == [10, 20, 30]
    digests: dict[int, Any] = {step: f"{step:064x}" for step in (20, 30)}
    assert world.status["checkpoint"]["promoted"] == [
        {"name": "good", "step": 20, "directory": "step-20.e1g2", "digest": digests[20]},
        {"name": "newest", "step": 30, "directory": "step-30.e1g1", "digest": digests[30]},
        {"name": "gone", "step": 10},
    ]
    marks(world, ("good", 20))
    await looks(world)
    assert [mark["name"] for mark in world.status["checkpoint"]["promoted"]] == ["good"]


async def test_marks_come_and_go_while_a_run_is_suspended_and_after_its_end() -> None:
    world = await running()
    for phase, suspend in (("Suspended", True), ("Succeeded", False)):
        world.change(suspend=suspend)
        await world.live(120, until=partial(has_phase, world, phase))
        newest = world.status["checkpoint"]
        marks(world, ("release", newest["latestStep"]))
        await looks(world)
        (mark,) = world.status["checkpoint"]["promoted"]
        assert (world.phase, mark["directory"]) == (phase, newest["uri"].rpartition("/")[2])
        marks(world)
        await looks(world)
        assert "promoted" not in world.status["checkpoint"]


@pytest.mark.parametrize(
    ("profile", "phase", "reason"),
    [("gone", "Queued", "ProfileNotFound"), ("local-cpu", "Suspended", "ApiError")],
    ids=["queued", "revision-refused"],
)
async def test_marks_come_and_go_while_something_keeps_a_run_from_its_pods(
    profile: str, phase: str, reason: str
) -> None:
    world = await running()
    world.change(suspend=True)
    await world.live(120, until=lambda: world.phase == "Suspended")
    world.cluster.refuse["create", REVISION] = RequestForbidden("is forbidden", 403, "Forbidden")
    world.change(suspend=False, compute={"profile": profile, "nodes": 1})
    await world.live(60, until=lambda: world.condition("Reconciled")["reason"] == reason)
    newest = world.status["checkpoint"]
    marks(world, ("release", newest["latestStep"]))
    await looks(world)
    (mark,) = world.status["checkpoint"]["promoted"]
    assert (world.phase, mark["directory"]) == (phase, newest["uri"].rpartition("/")[2])


def at_the_end(phase: str, step: int, saved: int | None) -> Run:
    """A run of 100 steps that is at rest; `saved`: its newest checkpoint that was heard of."""
    status: dict[str, Any] = {"phase": phase, "progress": {"step": step, "totalSteps": 100}}
    if saved is not None:
        uri = f"{FOLDER}/step-{saved}.e1g1"
        status["checkpoint"] = {"latestStep": saved, "uri": uri, "lastCommittedTime": "2026-01-31T12:00:00Z"}
    return decode(copied(World().cluster.put(run_manifest() | {"status": status})))


@pytest.mark.parametrize(
    ("run", "step", "checkpoint", "latest"),
    [
        pytest.param(at_the_end("Succeeded", 100, 90), 100, 100, 100, id="after-the-last-step"),
        pytest.param(at_the_end("Succeeded", 100, None), 100, 100, 100, id="the-first-of-all"),
        pytest.param(at_the_end("Suspended", 95, 90), 95, 95, 95, id="after-a-suspension-was-given-up"),
        pytest.param(at_the_end("Succeeded", 95, 90), 100, 100, 100, id="with-steps-that-nobody-heard-of"),
        pytest.param(at_the_end("Suspended", 95, 90), 0, 95, 95, id="of-ranks-that-came-back"),
        pytest.param(at_the_end("Succeeded", 100, 100), 100, 90, 100, id="an-older-one"),
        pytest.param(at_the_end("Succeeded", 100, 90), 100, None, 90, id="none"),
    ],
)
def test_the_last_word_about_a_checkpoint_counts_though_its_step_was_known(
    run: Run, step: int, checkpoint: int | None, latest: int
) -> None:
    state = CoordinatorState(
        version=2,
        epoch=1,
        state=RunState.FINISHED,
        progress=Progress(step=step, total_steps=100, time=1.7e9),
        checkpoint=record(standing(checkpoint)) if checkpoint is not None else None,
    )
    shown = update_ended_status(run, Observed(coordinator=state), NOW)
    assert shown.checkpoint is not None and shown.checkpoint.latest_step == latest
    before = run.status.progress
    assert shown.progress is not None and before is not None
    assert shown.progress.step == max(step, before.step)


def ended_with(pod: PodView, saved: int, told: RunState, backlog: int = 0) -> tuple[Run, Observed]:
    """A run that has succeeded, of whose checkpoint `saved` is written, and what its coordinator says."""
    state = CoordinatorState(
        version=2,
        epoch=1,
        state=told,
        progress=Progress(step=100, total_steps=100, time=1.7e9),
        checkpoint=record(standing(100), standing(90)),
        telemetry_backlog=backlog,
    )
    return at_the_end("Succeeded", 100, saved), Observed(coordinator=state, pods=[pod])


@pytest.mark.parametrize(
    ("written", "goes"),
    [pytest.param(90, False, id="not-written-yet"), pytest.param(100, True, id="written")],
)
def test_a_coordinator_goes_once_the_last_checkpoint_is_written_and_not_all_that_it_lists(
    written: int, goes: bool
) -> None:
    """A status that would be too long is written without the others that stand."""
    run, observed = ended_with(COORDINATOR, written, RunState.FINISHED)
    seen = update_ended_status(run, observed, NOW)
    assert seen.checkpoint is not None and seen.checkpoint != run.status.checkpoint
    found = retirement.retire_ended(run, seen, observed, 0.0, NOW)
    assert [removal.child for removal in found.removals] == [COORDINATOR] * goes


@pytest.mark.parametrize(
    ("told", "backlog", "waited", "goes"),
    [
        pytest.param(RunState.FINISHED, 0, 0.0, True, id="last-word"),
        pytest.param(RunState.TRAINING, 0, 59.0, False, id="another-word-may-come"),
        pytest.param(RunState.TRAINING, 0, 61.0, True, id="none-came"),
        pytest.param(RunState.TRAINING, 5, 61.0, False, id="rows-are-on-their-way"),
        pytest.param(RunState.FINISHED, 5, 599.0, False, id="rows-after-the-last-word"),
        pytest.param(RunState.TRAINING, 5, 601.0, True, id="rows-that-nobody-takes"),
    ],
)
def test_a_coordinator_stays_for_its_last_word_and_its_rows(
    told: RunState, backlog: int, waited: float, goes: bool
) -> None:
    run, observed = ended_with(COORDINATOR, 100, told, backlog)
    found = retirement.retire_ended(run, update_ended_status(run, observed, NOW), observed, waited, NOW)
    assert [removal.child for removal in found.removals] == [COORDINATOR] * goes
