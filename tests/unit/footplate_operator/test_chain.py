"""What a run is given of another one, by what that is and says: a table."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import MOST_KEPT, Directives, Limits
from footplate_contracts.lineage import run_references
from footplate_contracts.names import Reason
from footplate_contracts.v1alpha1.references import MOST_FOLLOWERS, DependentRun, LineageEntry, ReferenceField
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.trainingrun.policies import checkpoint_pins
from footplate_operator.trainingrun.policies.checkpoint_pins import ReferencingRun
from footplate_operator.trainingrun.policies.reference_resolution import resolve
from footplate_operator.trainingrun.revision import UnreadableRevision, frozen_lineage
from footplate_operator.trainingrun.run import Run, decode
from tests.support.operator_fakes import run_manifest

SILENT = CoordinatorState.empty()
BASE = {"name": "base", "checkpoint": "latest"}
NOON = "2026-01-31T12:00:00Z"
KEPT = [
    {"step": 30, "generation": "2.1", "digest": "3" * 64},
    {"step": 20, "generation": "1.2", "digest": "2" * 64, "validationLoss": 1.0},
    {"step": 10, "generation": "1.1", "digest": "1" * 64},
]
SAVED = {
    "latestStep": 30,
    "uri": "/base/step-30.e2g1",
    "lastCommittedTime": NOON,
    "kept": KEPT,
    "bestStep": 20,
}
UNVALIDATED = {**SAVED, "bestStep": None}
HELD_OUT = {"validation": {"uri": "/held-out", "everySteps": 10}}
BOTH = [{"name": "a", "step": 10, "directory": "step-10.e1g1"}, {"name": "b", "step": 20}]


def next_run(checkpoint: str = "latest", name: str = "next", **spec: Any) -> Run:
    named = {"name": "base", "checkpoint": checkpoint}
    promoted_name = spec.pop("promotedName", None)
    given = {"initFrom": {"run": named | ({"promotedName": promoted_name} if promoted_name else {})}, **spec}
    return seen(name, given)


def base(phase: str | None, checkpoint: dict[str, Any] | None = None, **more: Any) -> Run:
    """The other run; `more` of its status, or its `spec`. One that has succeeded has told its end."""
    own = {"checkpoint": {"uri": "/base/", "everySteps": 10}, **HELD_OUT, **more.pop("spec", {})}
    progress = {"step": 30, "totalSteps": 30} if phase == "Succeeded" else {"step": 35, "totalSteps": 100}
    status = {"progress": progress, **more}
    if phase is not None:
        status["phase"] = phase
    if checkpoint is not None:
        status["checkpoint"] = {key: value for key, value in checkpoint.items() if value is not None}
    return seen("base", own, status)


def seen(name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> Run:
    body = run_manifest(name, **spec)
    body["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": NOON}
    return decode(body | {"status": status or {}})


def answer(run: Run, other: Run | None) -> LineageEntry | ReconcileProblem:
    ((field, reference),) = run_references(run.spec).items()
    return resolve(run, field, reference, other)


def keeps(*steps: int) -> list[dict[str, Any]]:
    return [{"name": "next", "uid": "uid-next", "steps": list(steps)}]


@pytest.mark.parametrize(
    ("checkpoint", "other", "step", "directory"),
    [
        pytest.param("latest", base("Succeeded", SAVED), 30, "step-30.e2g1", id="latest"),
        pytest.param("best", base("Succeeded", SAVED), 20, "step-20.e1g2", id="best"),
        pytest.param("10", base("Succeeded", SAVED), 10, "step-10.e1g1", id="step"),
        pytest.param("10", base("Failed", SAVED), 10, "step-10.e1g1", id="step-of-one-that-failed"),
        pytest.param("10", base("Running", SAVED, followers=keeps(10)), 10, "step-10.e1g1", id="kept"),
        pytest.param(
            "promoted", base("Failed", SAVED | {"promoted": BOTH[1:]}), 20, "step-20.e1g2", id="promoted"
        ),
        pytest.param(
            "30", base("Succeeded", SAVED | {"kept": None}), 30, "step-30.e2g1", id="of-an-earlier-trainer"
        ),
    ],
)
def test_a_checkpoint_is_given(checkpoint: str, other: Run, step: int, directory: str) -> None:
    found = answer(next_run(checkpoint), other)
    assert isinstance(found, LineageEntry)
    assert (found.run, found.uid, found.step, found.uri) == ("base", "uid-base", step, f"/base/{directory}")


@pytest.mark.parametrize(
    ("checkpoint", "other", "message"),
    [
        pytest.param(
            "latest",
            base("Running", SAVED),
            "waits for the latest checkpoint at the end of run base, which is Running at step 35",
            id="latest",
        ),
        pytest.param(
            "best",
            base("Suspended", SAVED),
            "waits for the best checkpoint at the end of run base, which is Suspended at step 35; it"
            " continues once that run is resumed",
            id="best-of-a-suspended-one",
        ),
        pytest.param(
            "40",
            base("Running", SAVED),
            "waits for the checkpoint of step 40 of run base, which is Running at step 35",
            id="step-to-come",
        ),
        pytest.param(
            "10",
            base(
                "Running",
                SAVED,
            ),
            "waits until run base keeps its checkpoint of step 10 for this run",
            id="step-not-kept-yet",
        ),
        pytest.param(
            "promoted",
            base("Failed", SAVED),
            "waits for the promoted checkpoint of run base, which is Failed at step 35; mark one of its"
            " checkpoints (spec.checkpoint.promoted)",
            id="mark",
        ),
    ],
)
def test_a_run_waits(checkpoint: str, other: Run, message: str) -> None:
    assert answer(next_run(checkpoint), other) == ReconcileProblem(
        Reason.WAITING_FOR_RUN, message, waiting=True
    )


SIZES = run_manifest()["spec"]["model"]


@pytest.mark.parametrize(
    ("run", "other", "reason", "says"),
    [
        pytest.param(
            next_run(), None, Reason.RUN_NOT_FOUND, "is not in this namespace: create it", id="nobody"
        ),
        pytest.param(
            next_run(),
            base("Failed", SAVED),
            Reason.RUN_FAILED,
            "initFrom.run base has failed; delete and recreate it, and this run continues automatically;"
            " or recreate this run with one of its steps (10, 20, 30)",
            id="failed",
        ),
        pytest.param(
            next_run("best"),
            base("Failed"),
            Reason.RUN_FAILED,
            "this run continues automatically",
            id="failed-with-nothing",
        ),
        pytest.param(
            next_run(),
            base("Succeeded"),
            Reason.CHECKPOINT_NOT_FOUND,
            "the run has succeeded and reported no checkpoint; if /base/ holds any, set"
            " initFrom.uri /base/ to use the newest; recreate this run with another checkpoint",
            id="succeeded-with-nothing",
        ),
        pytest.param(
            next_run("best"),
            base("Succeeded", UNVALIDATED),
            Reason.CHECKPOINT_NOT_FOUND,
            "has no checkpoint with a validation loss: its validation.everySteps must divide its"
            " checkpoint.everySteps; recreate this run with another checkpoint",
            id="never-validated",
        ),
        pytest.param(
            next_run("15"),
            base("Running", SAVED),
            Reason.CHECKPOINT_NOT_FOUND,
            "has no checkpoint of step 15; it has 10, 20, 30",
            id="step-passed",
        ),
        pytest.param(
            next_run("40"),
            base("Succeeded", SAVED),
            Reason.CHECKPOINT_NOT_FOUND,
            "has no checkpoint of step 40",
            id="step-beyond-the-end",
        ),
        *(
            pytest.param(
                next_run(asked),
                base("Succeeded", SAVED, progress={"step": 35, "totalSteps": 100}),
                Reason.CHECKPOINT_NOT_FOUND,
                "its last checkpoints were not reported: it lists 10, 20, 30, and /base/ may hold others;"
                " select a listed one by its step, and any other by its directory in initFrom.uri;"
                " recreate this run",
                id=f"{asked}-of-one-whose-end-nobody-heard",
            )
            for asked in ("latest", "best", "100")
        ),
        pytest.param(
            next_run("promoted"),
            base("Succeeded", SAVED | {"promoted": BOTH}),
            Reason.CHECKPOINT_NOT_FOUND,
            "has several marks (a, b); remove all but one, and this run continues automatically; or recreate"
            " this run with another checkpoint or mark",
            id="several-marks",
        ),
        pytest.param(
            next_run(model={**SIZES, "hiddenSize": 128, "layers": 3}),
            base("Running", SAVED),
            Reason.RUN_INCOMPATIBLE,
            "initFrom.run base does not fit this run: hiddenSize is 128, in the folder 64; layers is 3, in"
            " the folder 2; recreate this run with a reference that fits",
            id="another-shape",
        ),
        pytest.param(
            next_run(),
            base("Running", spec={"stage": "generate"}),
            Reason.RUN_INCOMPATIBLE,
            "its stage is generate, but initFrom needs one of dpo, grpo, ppo, pretrain, sft",
            id="another-stage",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_remedy(
    run: Run, other: Run | None, reason: Reason, says: str
) -> None:
    found = answer(run, other)
    assert isinstance(found, ReconcileProblem) and found.reason is reason and not found.waiting
    assert says in found.message


@pytest.mark.parametrize(
    ("spec", "stage", "gives"),
    [
        pytest.param(
            {"stage": "dpo", "preference": {"reference": {"run": BASE}}}, "sft", True, id="reference"
        ),
        pytest.param({"reward": {"run": BASE}}, "reward", True, id="reward"),
        pytest.param({"reinforcement": {"value": {"run": BASE}}}, "sft", False, id="no-value"),
        pytest.param({"reward": {"run": BASE}}, "sft", False, id="no-reward"),
        pytest.param({"reinforcement": {"value": {"run": BASE}}}, "reward", True, id="value"),
        pytest.param(
            {"reinforcement": {"reference": {"run": BASE}}}, "reward", False, id="no-language-model"
        ),
    ],
)
def test_each_field_takes_what_its_stage_gives(spec: dict[str, Any], stage: str, gives: bool) -> None:
    found = answer(seen("next", spec), base("Succeeded", SAVED, spec={"stage": stage}))
    assert isinstance(found, LineageEntry) is gives
    assert isinstance(found, LineageEntry) or found.reason is Reason.RUN_INCOMPATIBLE


def test_one_of_several_marks_is_named() -> None:
    found = answer(next_run("promoted", promotedName="a"), base("Succeeded", SAVED | {"promoted": BOTH}))
    assert isinstance(found, LineageEntry) and found.step == 10


def test_answers_are_data_once_the_run_has_succeeded() -> None:
    run = seen("next", {"data": {"run": {"name": "base"}}})
    spec = {"stage": "generate", "rollout": {"maxTokens": 8, "output": {"uri": "/answers"}}}
    waiting, found = answer(run, base("Running", spec=spec)), answer(run, base("Succeeded", spec=spec))
    assert isinstance(waiting, ReconcileProblem) and waiting.waiting
    assert found == LineageEntry(field=ReferenceField.DATA, run="base", uid="uid-base", uri="/answers")
    told = answer(run, base("Succeeded", spec=spec, data={"answers": "a" * 64}))
    assert isinstance(told, LineageEntry) and told.digest == "a" * 64
    failed = answer(run, base("Failed", spec=spec))
    assert isinstance(failed, ReconcileProblem) and failed.reason is Reason.RUN_FAILED


def test_what_was_given_is_read_from_the_status_where_another_release_wrote_the_revision() -> None:
    spec = {"initFrom": {"run": BASE}}
    entry = LineageEntry(field="initFrom", run="base", uid="u", step=20, uri="/base/step-20.e1g2")
    told = seen("next", spec, {"lineage": [entry.to_json()]})
    unreadable = UnreadableRevision(2, "9.0.0", "config.sorcery: Extra inputs are not permitted")
    assert frozen_lineage(told, [unreadable]) == [entry]
    assert frozen_lineage(seen("next", spec), [unreadable]) is None
    assert frozen_lineage(seen("alone", {}), []) == []


def kept_steps(other: Run, *followers: ReferencingRun) -> list[list[int]]:
    return [follower.steps for follower in checkpoint_pins.build_followers(other, followers)]


def naming(run: Run, *lineage: LineageEntry) -> ReferencingRun:
    return ReferencingRun(run, run_references(run.spec), lineage)


def test_a_run_that_goes_on_in_the_folder_of_its_predecessor_keeps_what_that_gave() -> None:
    given = LineageEntry(field="initFrom", run="base", uid="uid-of-before", step=20, uri="/base/step-20.e1g2")
    other = base("Running", SAVED)
    assert kept_steps(other, naming(next_run(), given)) == [[20]]
    same = base("Running", SAVED, spec={"checkpoint": {"uri": "file:///base", "everySteps": 10}})
    assert kept_steps(same, naming(next_run(), given)) == [[20]]
    elsewhere = base("Running", SAVED, spec={"checkpoint": {"uri": "/basement", "everySteps": 10}})
    assert kept_steps(elsewhere, naming(next_run(), given)) == [[]]


@pytest.mark.parametrize(
    ("phase", "told", "before", "listed"),
    [
        pytest.param("Running", None, [], [], id="unheard"),
        pytest.param("Running", [10], [], [], id="not-told-of-this-one"),
        pytest.param("Running", [10, 20], [], [[20]], id="told"),
        pytest.param("Starting", None, [20], [[20]], id="listed-before-another-coordinator"),
        pytest.param("Succeeded", None, [], [[20]], id="ended"),
    ],
)
def test_a_step_is_listed_once_the_coordinator_was_told_to_keep_it(
    phase: str, told: list[int] | None, before: list[int], listed: list[list[int]]
) -> None:
    ended = {"completionTime": NOON} if phase == "Succeeded" else {}
    other = base(phase, SAVED, followers=keeps(*before) if before else None, **ended)
    state = SILENT
    if told is not None:
        directives = Directives(
            nodes=1, limits=Limits(steps=100, every_steps=10, keep_last=1, kept_steps=told)
        )
        state = CoordinatorState(version=1, epoch=1, state=RunState.TRAINING, directives=directives)
    wanted = [DependentRun(name="next", uid="uid-next", steps=[20])]
    found = checkpoint_pins.select_followers(other, wanted, state, has_workers=True)
    assert [follower.steps for follower in found] == listed
    idle = [DependentRun(name="next", uid="uid-next")]
    assert checkpoint_pins.select_followers(other, idle, state, has_workers=True) == idle


@pytest.mark.parametrize(
    ("phase", "has_workers", "steps"),
    [
        pytest.param("Queued", False, [[20]], id="gave-its-nodes-back"),
        pytest.param("Queued", True, [], id="they-are-still-ending"),
        pytest.param(None, False, [[20]], id="never-looked-at"),
        pytest.param("Suspended", False, [[20]], id="suspended"),
        pytest.param("Suspended", True, [], id="suspended-and-its-ranks-may-still-save"),
        pytest.param("Starting", False, [], id="its-ranks-may-come-any-moment"),
    ],
)
def test_a_run_without_nodes_lists_steps_though_no_coordinator_says_it_was_told(
    phase: str | None, has_workers: bool, steps: list[list[int]]
) -> None:
    wanted = [DependentRun(name="next", uid="uid-next", steps=[20])]
    found = checkpoint_pins.select_followers(base(phase, SAVED), wanted, SILENT, has_workers=has_workers)
    assert [follower.steps for follower in found] == steps


def of_two(name: str, *steps: int) -> Run:
    """A run that names several steps of the other one."""
    named = dict(zip(("initFrom", "reward"), steps, strict=True))
    parts = {field: {"run": {"name": "base", "checkpoint": str(step)}} for field, step in named.items()}
    return seen(name, parts)


def test_who_is_kept_something_for_is_put_out_by_no_mark_and_by_nobody_who_came_later() -> None:
    early = [of_two(f"z{place:02}", 100 + place, 200 + place) for place in range(28)]
    standing = [
        {"name": run.name, "uid": run.uid, "steps": [100 + place, 200 + place]}
        for place, run in enumerate(early)
    ]
    marks = [{"name": f"m{step}", "step": step} for step in range(8)]
    spec = {"checkpoint": {"uri": "/base", "everySteps": 10, "promoted": marks}}
    late = of_two("a", 300, 400)
    other = base("Running", SAVED, spec=spec, followers=standing)
    found = checkpoint_pins.build_followers(other, [*map(naming, [late, *early])])
    assert [follower.to_json() for follower in found[:28]] == standing
    assert (found[28].name, found[28].steps) == ("a", [])
    kept = {step for follower in found for step in follower.steps}
    assert len(kept | set(range(8))) == MOST_KEPT


def test_those_that_want_no_step_yet_shut_out_nobody_that_wants_one_and_bounds_are_told() -> None:
    idle = [next_run("latest", name=f"n{place:02}") for place in range(MOST_FOLLOWERS)]
    listed = [{"name": run.name, "uid": run.uid, "steps": []} for run in idle]
    other, run = base("Running", SAVED, followers=listed), next_run("20")
    found = checkpoint_pins.build_followers(other, [*map(naming, [*idle, run])])
    assert len(found) == MOST_FOLLOWERS and (found[0].name, found[0].steps) == ("next", [20])
    waiting = answer(run, other)
    assert isinstance(waiting, ReconcileProblem) and waiting.waiting
    assert "it lists at most 32 runs and keeps at most 56 steps for them, now for no run" in waiting.message
    assert "suspend and resume it" in waiting.message
