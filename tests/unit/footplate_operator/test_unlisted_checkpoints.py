"""What is said of checkpoints that a run does not list, and of marks whose checkpoints it does not list."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.lineage import run_references
from footplate_contracts.names import Reason
from footplate_contracts.v1alpha1.types import MOST_STANDING
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.trainingrun.policies.reference_resolution import resolve
from footplate_operator.trainingrun.run import TRAINING_RUN, Run, decode
from tests.support.operator_fakes import NAME, run_manifest
from tests.support.operator_world import running

NOON = "2026-01-31T12:00:00Z"
FOLDER = "/shared/base"
FULL = [1000 - 10 * place for place in range(MOST_STANDING)]
ANEW = "recreate this run with another checkpoint"
MOVE = f"move the mark to one of these, and this run continues automatically; or {ANEW} or mark"
BESIDE = "if it holds step 500, set initFrom.uri to its directory"


def base(
    phase: str, *, kept: list[int] | None, keep_last: int = 100, mark: int | None = None, **more: Any
) -> Run:
    """A run that lists `kept` of its checkpoints, and `more` of its status."""
    standing = [{"step": step, "generation": "1.1", "digest": f"{step:064x}"} for step in kept or ()]
    latest = kept[0] if kept else 1000
    checkpoint = {"latestStep": latest, "uri": f"{FOLDER}/step-{latest}.e1g1", "lastCommittedTime": NOON}
    checkpoint |= {"recentSteps": more.pop("recent", [])} | ({} if kept is None else {"kept": standing})
    checkpoint |= {} if mark is None else {"promoted": [{"name": "good", "step": mark}]}
    progress = {"step": latest, "totalSteps": 1000}
    status = {"phase": phase, "progress": progress, "checkpoint": checkpoint, **more}
    return run("base", status, checkpoint={"uri": FOLDER, "everySteps": 10, "keepLast": keep_last})


def run(name: str, status: dict[str, Any], **spec: Any) -> Run:
    body = run_manifest(name, **spec)
    body["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": NOON}
    return decode(body | {"status": status})


@pytest.mark.parametrize(
    ("checkpoint", "other", "reason", "says"),
    [
        pytest.param(
            "500",
            base("Succeeded", kept=FULL),
            Reason.CHECKPOINT_NOT_FOUND,
            ["does not list step 500: it lists 690, 700,", f"{FOLDER} may hold others; {BESIDE}", ANEW],
            id="as-many-as-it-lists",
        ),
        pytest.param(
            "500",
            base("Failed", kept=[1000, 10], recent=[980, 990, 1000]),
            Reason.CHECKPOINT_NOT_FOUND,
            ["does not list step 500: it lists 10, 1000, and ", BESIDE, ANEW],
            id="a-status-too-long-for-all",
        ),
        pytest.param(
            "500",
            base("Running", kept=None),
            Reason.CHECKPOINT_NOT_FOUND,
            ["does not list step 500: it lists 1000, and ", BESIDE, ANEW],
            id="a-trainer-that-tells-of-none",
        ),
        pytest.param(
            "500",
            base("Running", kept=FULL),
            Reason.WAITING_FOR_RUN,
            [
                "which is Running at step 1000; it lists 690, 700,",
                ", and also step 500, if that exists, once it has",
            ],
            id="it-will-be-kept-and-listed",
        ),
        pytest.param(
            "500",
            base("Succeeded", kept=FULL[:-1], keep_last=31, recent=[980, 990, 1000]),
            Reason.CHECKPOINT_NOT_FOUND,
            ["has no checkpoint of step 500; it has 700, 710,", ANEW],
            id="all-are-listed",
        ),
        pytest.param(
            "promoted",
            base("Succeeded", kept=FULL, mark=500),
            Reason.CHECKPOINT_NOT_FOUND,
            ["does not list step 500", BESIDE, MOVE],
            id="a-mark-beyond-the-list",
        ),
        pytest.param(
            "promoted",
            base("Failed", kept=[1000, 990], mark=15),
            Reason.CHECKPOINT_NOT_FOUND,
            ["has no checkpoint of step 15; it has 990, 1000", MOVE],
            id="a-mark-of-none",
        ),
        pytest.param(
            "promoted",
            base("Succeeded", kept=[900], mark=1000),
            Reason.CHECKPOINT_NOT_FOUND,
            ["does not list step 1000, and its last checkpoints were not reported", MOVE],
            id="a-mark-of-one-that-nobody-heard-of",
        ),
    ],
)
def test_what_is_not_listed_is_not_said_to_be_gone(
    checkpoint: str, other: Run, reason: Reason, says: list[str]
) -> None:
    naming = run("next", {}, initFrom={"run": {"name": "base", "checkpoint": checkpoint}})
    ((field, reference),) = run_references(naming.spec).items()
    found = resolve(naming, field, reference, other)
    assert isinstance(found, ReconcileProblem) and found.reason is reason
    assert found.waiting is (reason is Reason.WAITING_FOR_RUN)
    assert [text for text in says if text not in found.message] == [], found.message


async def test_a_step_that_one_of_many_checkpoints_has_is_listed_and_given_once_it_is_kept() -> None:
    many = {"uri": "/shared/checkpoints", "everySteps": 10, "keepLast": 100}
    training = {**run_manifest()["spec"]["training"], "steps": 100_000}
    world = await running(checkpoint=many, training=training)
    await world.live(100, until=lambda: world.status["progress"]["step"] > 10 * (MOST_STANDING + 8))
    assert 20 not in [found["step"] for found in world.status["checkpoint"]["kept"]]
    own = {"uri": "/shared/next", "everySteps": 10}
    named = {"run": {"name": NAME, "checkpoint": "20"}}
    world.cluster.put(run_manifest("next", checkpoint=own, initFrom=named))

    def lineage() -> list[dict[str, Any]]:
        status: dict[str, Any] = world.cluster.objects[TRAINING_RUN, "next"].get("status", {})
        assert not any(known["reason"] == "CheckpointNotFound" for known in status.get("conditions", []))
        return list(status.get("lineage", []))

    await world.live(30, until=lambda: bool(lineage()))
    assert [entry["step"] for entry in lineage()] == [20]
