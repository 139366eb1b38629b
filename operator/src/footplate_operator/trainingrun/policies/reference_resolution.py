"""Resolves a reference to another run: to a checkpoint, to a wait, or to a problem to mend.

While a run may still save, its newest and its best checkpoint are not known yet: `latest` and `best`
mean the checkpoints at its end. A step and a mark name one checkpoint, which is available once it exists. A
run that still trains may remove it, by retention, so it has to report first that it retains it
(`checkpoint_pins.py`).
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.directives import MOST_KEPT
from footplate_contracts.names import Phase, Reason
from footplate_contracts.v1alpha1.references import (
    MOST_FOLLOWERS,
    GenerateRunReference,
    LineageEntry,
    ReferenceField,
    RunReference,
)
from footplate_contracts.v1alpha1.status import CheckpointStatus
from footplate_contracts.v1alpha1.types import MOST_PROMOTED, MOST_STANDING
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.trainingrun.policies.reference_check import find_mismatch
from footplate_operator.trainingrun.run import Run

Reference = RunReference | GenerateRunReference
# Whatever marks a run is given later, there is room for them.
MOST_KEPT_FOR_OTHERS: Final = MOST_KEPT - MOST_PROMOTED
_GOES_ON: Final = "this run continues automatically"


def resolve(
    run: Run, field: ReferenceField, reference: Reference, other: Run | None
) -> LineageEntry | ReconcileProblem:
    """Return the entry for `other`, which `run` names by `reference` in `field`, or why there is none yet.

    Args:
        other: as the API server has it now; None if no run has that name.
    """
    if other is None or other.deleted:
        gone = "is being deleted" if other is not None else "is not in this namespace"
        return _held_up(
            Reason.RUN_NOT_FOUND,
            f"{field}.run {reference.name} {gone}: create it, and {_GOES_ON}; or delete this run and recreate"
            " it with another reference",
        )
    if wrong := find_mismatch(run, field, reference, other):
        return _held_up(
            Reason.RUN_INCOMPATIBLE,
            f"{field}.run {reference.name} does not fit this run: {wrong}; recreate this run with a"
            " reference that fits",
        )
    if isinstance(reference, GenerateRunReference):
        return _answers(field, other)
    return _Search(run, field, reference, other).found()


def _held_up(reason: Reason, message: str) -> ReconcileProblem:
    return ReconcileProblem(reason, message[:1024])


def _waits(message: str) -> ReconcileProblem:
    return ReconcileProblem(Reason.WAITING_FOR_RUN, message[:1024], waiting=True)


def _state(other: Run) -> str:
    """Describe the run's phase and step."""
    phase, progress = other.phase or Phase.QUEUED, other.status.progress
    said = f"{phase.value} at step {progress.step}" if progress is not None else phase.value
    return f"{said}; it continues once that run is resumed" if phase is Phase.SUSPENDED else said


def _failed(field: str, other: Run, remedy: str) -> ReconcileProblem:
    message = f"{field}.run {other.name} has failed; {remedy}"
    return _held_up(Reason.RUN_FAILED, message)


def _answers(field: ReferenceField, other: Run) -> LineageEntry | ReconcileProblem:
    output = other.spec.rollout.output if other.spec.rollout is not None else None
    assert output is not None, "a misfit otherwise"
    if other.phase is Phase.SUCCEEDED:
        written = other.status.data.answers if other.status.data is not None else None
        return LineageEntry(field=field, run=other.name, uid=other.uid, uri=output.uri, digest=written)
    if other.phase is Phase.FAILED:
        return _failed(field, other, f"delete and recreate it, and {_GOES_ON}")
    return _waits(f"waits for the answers of run {other.name}, which is {_state(other)}")


class _Search:
    """Search for a reference's checkpoint among the checkpoints of `other`."""

    def __init__(self, run: Run, field: ReferenceField, reference: RunReference, other: Run) -> None:
        self._run = run
        self._field = field
        self._asked = reference.checkpoint
        self._promoted_name = reference.promoted_name
        self._other = other
        self._known = other.status.checkpoint

    def found(self) -> LineageEntry | ReconcileProblem:
        if self._asked == "promoted":
            return self._promoted()
        if self._asked not in ("latest", "best"):
            return self._of_step(int(self._asked))
        if self._other.phase is Phase.FAILED:
            there = _listed(self._known)
            remedy = f"or recreate this run with one of its steps ({there})" if there else ""
            again = f"delete and recreate it, and {_GOES_ON}"
            return _failed(self._field, self._other, f"{again}; {remedy}".rstrip("; "))
        if self._other.phase is not Phase.SUCCEEDED:
            return self._waiting(self._never_best())
        if self._known is None:
            folder = self._other.spec.checkpoint.uri
            return self._missing(
                f"has succeeded and reported no checkpoint; if {folder} holds any, set"
                f" {self._field}.uri {folder} to use the newest"
            )
        if not _told_its_end(self._other):
            return self._missing(f"has succeeded, and {self._untold()}")
        step = self._known.latest_step if self._asked == "latest" else self._known.best_step
        if step is None:
            why = "its validation.everySteps must divide its checkpoint.everySteps"
            if self._other.spec.validation is None:
                why = "it has no validation"
            return self._missing(f"has no checkpoint with a validation loss: {why}")
        return self._entry(step) or self._missing("does not report its location")

    def _promoted(self) -> LineageEntry | ReconcileProblem:
        marks = [
            mark
            for mark in (self._known.promoted if self._known else None) or ()
            if self._promoted_name in (None, mark.name)
        ]
        if not marks:
            return self._waiting("mark one of its checkpoints (spec.checkpoint.promoted)")
        if len(marks) > 1:
            names = ", ".join(sorted(mark.name for mark in marks))
            return self._missing(f"has several marks ({names})", "remove all but one")
        return self._of_step(marks[0].step)

    def _of_step(self, step: int) -> LineageEntry | ReconcileProblem:
        other, known = self._other, self._known
        entry = self._entry(step)
        if entry is None:
            passed = known is not None and known.latest_step >= step
            if not passed and other.phase is Phase.SUCCEEDED and not _told_its_end(other):
                return self._missing(f"does not list step {step}, and {self._untold()}", self._moved)
            if passed and _may_stand_unlisted(other):
                return self._unlisted(step)
            if passed or other.ended is not None:
                return self._missing(
                    f"has no checkpoint of step {step}; it has {_listed(known) or 'none'}", self._moved
                )
            return self._waiting()
        if other.ended is None and step not in kept_for(other, self._run):
            waits = f"waits until run {other.name} keeps its checkpoint of step {step} for this run"
            return _waits(waits + _without_room(other, self._run))
        return entry

    def _entry(self, step: int) -> LineageEntry | None:
        """Return the lineage entry for the checkpoint of `step`, if it exists and its directory is known."""
        known, folder = self._known, self._other.spec.checkpoint.uri.rstrip("/")
        kept = next((found for found in (known.kept if known else None) or () if found.step == step), None)
        if kept is not None:
            directory = kept.directory
        elif known is not None and known.latest_step == step:
            directory = known.uri.rpartition("/")[2]
        else:
            return None
        return LineageEntry(
            field=self._field,
            run=self._other.name,
            uid=self._other.uid,
            step=step,
            uri=f"{folder}/{directory}",
            digest=kept.digest if kept is not None else None,
        )

    def _waiting(self, remedy: str = "") -> ReconcileProblem:
        which = self._asked if self._asked in ("latest", "best") else f"{self._asked} checkpoint"
        if self._asked in ("latest", "best"):
            which += " checkpoint at the end"
        elif self._asked != "promoted":
            which = f"checkpoint of step {self._asked}"
        elif self._promoted_name is not None:
            which += f" {self._promoted_name}"
        more = f"; {remedy}" if remedy else ""
        return _waits(
            f"waits for the {which} of run {self._other.name}, which is {_state(self._other)}{more}"
        )

    def _never_best(self) -> str:
        """Return the remedy for a reference to the best checkpoint of a run without validation, else ""."""
        if self._asked != "best" or self._other.spec.validation is not None:
            return ""
        return (
            "it has no validation, so none of its checkpoints would be the best: set validation while it"
            " is suspended"
        )

    def _untold(self) -> str:
        """Describe the checkpoints that may exist unlisted, for a run whose end only its pods reported."""
        there = _listed(self._known) or "none"
        return (
            "its last checkpoints were not reported: it lists"
            f" {there}, and {self._other.spec.checkpoint.uri} may hold others; select a listed one by"
            f" its step, and any other by its directory in {self._field}.uri"
        )

    def _unlisted(self, step: int) -> ReconcileProblem:
        """Return the problem for a checkpoint that may exist though the other run does not list it.

        While that run may save again, its coordinator learns that a run waits for this step, and lists it.
        """
        other, there = self._other, _listed(self._known)
        if other.ended is None and self._known is not None and self._known.kept is not None:
            remedy = f"it lists {there}, and also step {step}, if that exists, once it has saved again"
            return self._waiting(remedy + _without_room(other, self._run))
        return self._missing(
            f"does not list step {step}: it lists {there}, and {other.spec.checkpoint.uri}"
            f" may hold others; if it holds step {step}, set {self._field}.uri to its directory",
            self._moved,
        )

    @property
    def _moved(self) -> str:
        """Remedy for a mark whose step is not available; empty for other references."""
        return "move the mark to one of these" if self._asked == "promoted" else ""

    def _missing(self, why: str, there: str = "") -> ReconcileProblem:
        """Return the problem that prevents this run; the remedy `there` applies to the other run."""
        anew = "recreate this run with another checkpoint"
        if self._asked == "promoted":
            anew += " or mark"
        remedy = f"{there}, and {_GOES_ON}; or {anew}" if there else anew
        return _held_up(
            Reason.CHECKPOINT_NOT_FOUND,
            f"{self._field}.run {self._other.name} with checkpoint {self._asked}: the run {why}; {remedy}",
        )


def _told_its_end(other: Run) -> bool:
    """Return whether a run that has succeeded has reported the checkpoint of its last step.

    If only its pods reported its end, the status has an earlier report: its newest checkpoint
    is not the last one, and the best one is not known.
    """
    progress, known = other.status.progress, other.status.checkpoint
    return progress is not None and known is not None and known.latest_step >= progress.total_steps > 0


def kept_for(other: Run, run: Run) -> frozenset[int]:
    """Return the steps whose checkpoints `other` retains for `run`, by its status."""
    followers = other.status.followers or ()
    return frozenset(step for follower in followers if follower.uid == run.uid for step in follower.steps)


def _without_room(other: Run, run: Run) -> str:
    """Return why `other` retains nothing for `run` though it has looked; empty while it has not."""
    known = other.status.followers or ()
    if len(known) < MOST_FOLLOWERS and all(follower.uid != run.uid for follower in known):
        return ""
    holders = ", ".join(follower.name for follower in known if follower.steps) or "no run"
    return (
        f"; it lists at most {MOST_FOLLOWERS} runs and keeps at most {MOST_KEPT_FOR_OTHERS} steps for them,"
        f" now for {holders}; if it keeps fewer, suspend and resume it, so that its ranks can keep steps"
    )


def wanted_steps(reference: Reference, other: Run) -> set[int]:
    """Return the steps of `other` that `reference` names, which may not exist yet; empty while unknown."""
    if isinstance(reference, GenerateRunReference) or reference.checkpoint in ("latest", "best"):
        return set()
    if reference.checkpoint != "promoted":
        return {int(reference.checkpoint)}
    marks = other.spec.checkpoint.promoted or ()
    named = {mark.step for mark in marks if reference.promoted_name in (None, mark.name)}
    return named if len(named) == 1 else set()


def _may_stand_unlisted(other: Run) -> bool:
    """Return whether checkpoints of `other` may exist that it does not list.

    Ranks list a limited number, and a status that would be too long lists only the named ones: then
    a checkpoint that retention keeps anyway is missing.
    """
    known = other.status.checkpoint
    if known is None or known.kept is None:
        return known is not None
    newest = known.recent_steps[-other.spec.checkpoint.keep_last :]
    listed = {found.step for found in known.kept}
    return len(known.kept) >= MOST_STANDING or not listed.issuperset(newest)


def _listed(known: CheckpointStatus | None) -> str:
    """Return the steps of the existing checkpoints that a run lists, as text."""
    if known is None:
        return ""
    steps = sorted({known.latest_step, *(found.step for found in known.kept or ())})
    return ", ".join(map(str, steps))
