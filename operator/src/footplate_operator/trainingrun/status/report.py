"""Builds the next status: the observed fields, and the phase, conditions and time that follow.

Every watcher of TrainingRuns receives each version of each status, so one stays
within 16 KiB, whatever happened to the run. Twenty attempts with a traceback
each would be larger than that: the newest keep their messages, older ones are cut,
then checkpoints without a name are no longer listed, and at last attempts are removed. The
failures that restart limits count are never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, Progress
from footplate_contracts.names import ConditionType, Phase, Reason, Role
from footplate_contracts.reports import RankPhase
from footplate_contracts.v1alpha1.status import Attempt, TimeStatus, TrainingRunStatus
from footplate_operator.runtime import conditions
from footplate_operator.runtime.clock import format_time
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.throttle import StatusChange
from footplate_operator.trainingrun.metadata import selector
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import wall_time
from footplate_operator.trainingrun.status.checkpoints import drop_unreferenced

STATUS_LIMIT: Final = 16 * 1024
# Characters that attempts beyond the newest keep, tried in this order until the status fits.
_CUTS: Final = (256, 128, 64, 0)
_NEWEST: Final = 2
_LAST_CUT: Final = 256
_UTMOST_CUT: Final = 32
_MARK: Final = "…"
_WITH_DEADLINE: Final = frozenset({Phase.QUEUED, Phase.STARTING, Phase.RESTARTING, Phase.SUSPENDING})
# What grows by itself, or says who wrote: no reason to write.
_PASSED_OVER: Final[dict[str, object]] = {
    "wall_seconds": None,
    "goodput": None,
    "cost": None,
    "written_by": "",
}
AT_REST: Final = frozenset({Phase.SUSPENDED, Phase.SUCCEEDED, Phase.FAILED})


def report(
    run: Run,
    seen: TrainingRunStatus,
    phase: Phase,
    said: Sequence[NewCondition],
    now: datetime,
    blocked: float = 0.0,
) -> TrainingRunStatus:
    """Return `seen` with phase, conditions and time, cut if it is too long.

    Args:
        seen: the status written last, with what has been observed since.
        blocked: seconds that checkpoints newer than the status written last blocked the training.
    """
    before = run.status
    said = [*said, *_resumption(before, phase)]
    reached = max([0, *(attempt.end_step or 0 for attempt in before.attempts)])
    steps = wall_time.StepWindow(_step(before), _step(seen), reached, blocked)
    time = wall_time.book(before.wall_seconds or TimeStatus(), run.created, before.phase, steps, now)
    same = before.phase is phase and before.last_transition_time
    return fit(
        seen.model_copy(
            update={
                "phase": phase,
                "last_transition_time": before.last_transition_time if same else format_time(now),
                "observed_generation": run.generation,
                "conditions": conditions.merge(seen.conditions, said, run.generation, now),
                "wall_seconds": time,
                "goodput": wall_time.goodput(time),
                "selector": selector(run.uid, Role.WORKER),
            }
        ).update_internal(phase_unobserved_seconds=_unobserved(run, phase) if same else 0.0)
    )


def _resumption(before: TrainingRunStatus, phase: Phase) -> list[NewCondition]:
    """Build Suspended=False of a run that was suspended and goes on; empty for any other."""
    known = conditions.find(before.conditions, ConditionType.SUSPENDED)
    if known is None or phase is Phase.SUSPENDED:
        return []
    return [NewCondition(ConditionType.SUSPENDED, False, Reason.RESUMED, "the run was resumed")]


def _unobserved(run: Run, phase: Phase) -> float:
    """Return the seconds of a phase with a deadline that do not count; 0 for other phases."""
    return round(run.unobserved.total_seconds(), 3) if phase in _WITH_DEADLINE else 0.0


def fit(status: TrainingRunStatus) -> TrainingRunStatus:
    """Cut messages of `status` as far as needed: of older attempts first, of everything last.

    If that is not enough, drop the checkpoints that nothing names, then the oldest attempts.
    """
    for characters in _CUTS:
        if bytes_of(status) <= STATUS_LIMIT:
            return status
        status = _cut(status, characters, _NEWEST)
    if bytes_of(status) <= STATUS_LIMIT:
        return status
    status = _shortened(status, _LAST_CUT)
    if bytes_of(status) > STATUS_LIMIT and status.checkpoint is not None:
        status = status.model_copy(
            update={"checkpoint": drop_unreferenced(status.checkpoint, status.followers or ())}
        )
    while bytes_of(status) > STATUS_LIMIT and len(status.attempts) > _NEWEST:
        status = status.model_copy(update={"attempts": status.attempts[1:]})
    return status if bytes_of(status) <= STATUS_LIMIT else _shortened(status, _UTMOST_CUT)


def bytes_of(status: TrainingRunStatus) -> int:
    """Return the size as JSON; the API server's stored size is within a few bytes of it."""
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def _cut(status: TrainingRunStatus, characters: int, newest: int) -> TrainingRunStatus:
    older = status.attempts[: len(status.attempts) - newest]
    short = [attempt.model_copy(update={"message": _short(attempt.message, characters)}) for attempt in older]
    return status.model_copy(update={"attempts": [*short, *status.attempts[len(older) :]]})


def _shortened(status: TrainingRunStatus, characters: int) -> TrainingRunStatus:
    """Return `status` with no message of more than so many characters."""
    conditions = [
        condition.model_copy(update={"message": _short(condition.message, characters)})
        for condition in status.conditions
    ]
    return _cut(status.model_copy(update={"conditions": conditions}), characters, 0)


def _short(message: str, characters: int) -> str:
    return message if len(message) <= characters else message[: max(0, characters - 1)] + _MARK


def not_training(
    reason: str, message: str, problem: ReconcileProblem | None, progressing: bool = False
) -> list[NewCondition]:
    """Build Ready, Progressing and Reconciled of a run that does not train; `problem`: the operator's."""
    return [
        NewCondition(ConditionType.READY, False, reason, message),
        NewCondition(ConditionType.PROGRESSING, progressing, reason, message),
        reconciled(problem),
    ]


def suspended(reason: str, message: str, problem: ReconcileProblem | None) -> list[NewCondition]:
    """Build the conditions of a suspended run; `problem`: the operator's."""
    return [
        NewCondition(ConditionType.SUSPENDED, True, reason, message),
        *not_training(reason, message, problem),
    ]


def reconciled(problem: ReconcileProblem | None, waiting: Sequence[str] = ()) -> NewCondition:
    """Build the condition Reconciled; `waiting`: fields that take effect on resumption."""
    if problem is not None:
        return NewCondition(ConditionType.RECONCILED, False, problem.reason, problem.message)
    if waiting:
        message = f"these take effect when the run is suspended and resumed: {', '.join(waiting)}"
        return NewCondition(ConditionType.RECONCILED, True, Reason.PENDING_RESUME, message)
    message = "everything matches the spec"
    return NewCondition(ConditionType.RECONCILED, True, Reason.AS_DESIRED, message)


def describe_training(training: int, wanted: int, refusal: str) -> str:
    """Describe a run in Running; `refusal`: why the coordinator cannot have the requested size."""
    if refusal:
        return f"{training} nodes continue to train; {refusal}"
    if training == wanted:
        return "all workers train"
    return f"{training} nodes train; this changes to {wanted} at a checkpoint"


def describe_sampling(progress: Progress) -> str:
    """Describe the ranks' work before a step; empty if they neither sample nor score."""
    finished = progress.finished or 0
    if progress.phase is RankPhase.ROLLOUT:
        return f"they sample, {finished} tokens so far"
    if progress.phase is RankPhase.SCORING:
        return f"they score samples, {finished} so far"
    return ""


def describe_missing_workers(missing: Sequence[int], running: int, wanted: int) -> str:
    """Describe a run that starts; `missing`: indices of workers not joined yet, `running`: worker pods."""
    if missing:
        shown = ", ".join(str(index) for index in missing[:8])
        return f"{wanted - len(missing)} of {wanted} workers have joined; missing: {shown}"
    return f"{running} of {wanted} worker pods run; nothing has been trained yet"


def describe_end(total_steps: int, wanted: int) -> str:
    """Describe a run that has trained to its end, and a length that was requested too late."""
    if total_steps in (0, wanted):
        return "trained to the last step"
    return (
        f"trained to step {total_steps}, the last one when it ended; the change to {wanted} steps"
        " came too late: start another run from its weights (resumeFrom)"
    )


def describe_answers(rollouts: int) -> str:
    """Describe the end of a run of stage generate, whichever of its starts wrote the answers."""
    counted = "1 rollout" if rollouts == 1 else f"{rollouts} rollouts"
    return f"the answers of {counted} are written"


def already_trained(
    state: CoordinatorState, seen: TrainingRunStatus, attempts: Iterable[Attempt], total_steps: int
) -> bool:
    """Return whether a finished run began at its last step: another one had trained in its folder.

    A run that trained itself, and was interrupted after its last checkpoint, has attempts that advanced.
    """
    began = state.start_step
    if began is None or not 0 < total_steps <= began:
        return False
    trained = any((attempt.end_step or 0) > attempt.start_step for attempt in attempts)
    return seen.checkpoint is None or not trained


def nothing_to_train(uri: str, total_steps: int) -> str:
    """Describe a run that began at its last step."""
    return (
        f"nothing was trained: checkpoint.uri {uri} already holds the last step {total_steps}; to start"
        " over set another checkpoint.uri, to continue raise training.steps"
    )


def compare(before: TrainingRunStatus, after: TrainingRunStatus) -> StatusChange:
    """Return whether `after` changes the status, and whether that may wait."""
    if before.model_copy(update=_PASSED_OVER) == after.model_copy(update=_PASSED_OVER):
        # Nothing else will be written of such a run that would take its last cost along.
        last = after.phase in AT_REST and _spent_more(before, after)
        return StatusChange.PROGRESS if last else StatusChange.NOTHING
    return StatusChange.PROGRESS if _state(before) == _state(after) else StatusChange.STATE


def _spent_more(before: TrainingRunStatus, after: TrainingRunStatus) -> bool:
    known, spent = (
        None if status.cost is None else status.cost.model_copy(update={"until": None})
        for status in (before, after)
    )
    return known != spent


def _step(status: TrainingRunStatus) -> int:
    return status.progress.step if status.progress else 0


def _state(status: TrainingRunStatus) -> TrainingRunStatus:
    conditions = [condition.model_copy(update={"message": ""}) for condition in status.conditions]
    less = {**_PASSED_OVER, "progress": None, "checkpoint": None, "conditions": conditions}
    return status.model_copy(update=less)
