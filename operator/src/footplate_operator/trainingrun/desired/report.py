"""The next status, put together from what a situation showed."""

from __future__ import annotations

from datetime import datetime

from footplate_contracts.names import Cause, ConditionType, Phase, Reason, Role
from footplate_contracts.v1alpha1.status import Condition, TimeStatus, TrainingRunStatus
from footplate_operator.trainingrun.desired.situation import Situation
from footplate_operator.trainingrun.manifests.metadata import selector
from footplate_operator.trainingrun.observed import Observed
from footplate_operator.trainingrun.revision import Revision, not_in_force, size, terms
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import conditions, fields, wall_time
from footplate_operator.trainingrun.status.attempts import AttemptLog
from footplate_operator.trainingrun.status.limit import fit


def seen(
    situation: Situation, phase: Phase, said: list[Condition], log: AttemptLog | None = None
) -> TrainingRunStatus:
    """The status with everything that the coordinator and the pods showed."""
    run, state = situation.run, situation.state
    log = log or situation.log
    progress = fields.progress(run.status, state, situation.now)
    checkpoint = fields.checkpoint(run.status, state)
    if checkpoint is not None:
        message = f"step {checkpoint.latest_step} is durable"
        said = [*said, say(situation, ConditionType.CHECKPOINTED, True, Reason.CHECKPOINT_COMMITTED, message)]
    after = basic(
        run, phase, situation.now, said, step=progress.step if progress else 0, blocked=_blocked(situation)
    )
    full = after.model_copy(
        update={
            "progress": progress,
            "checkpoint": checkpoint,
            "world": fields.world(run.status, state, situation.revision.frozen.config.parallelism),
            "attempts": list(log.attempts),
            "failures": dict(log.failures),
            "restarts": log.restarts,
            "failures_seen": f"{situation.seen[0]}.{situation.seen[1]}" if situation.seen > (0, 0) else "",
            "coordinator": fields.coordinator(
                run.status, run.name, situation.leader.current, _epoch(situation)
            ),
            "replicas": replicas(situation.observed),
        }
    )
    return fit(full)


def basic(
    run: Run, phase: Phase, now: datetime, said: list[Condition], step: int, blocked: float = 0.0
) -> TrainingRunStatus:
    """Phase, conditions and time; everything else as it was."""
    before = run.status
    reached = max([0, *(attempt.end_step or 0 for attempt in before.attempts)])
    steps = wall_time.Steps(known_step(run), step, reached, blocked)
    time = wall_time.book(before.time or TimeStatus(), run.created, before.phase, steps, now)
    return before.model_copy(
        update={
            "phase": phase,
            "phase_time": fields.phase_time(before, phase, now),
            "observed_generation": run.generation,
            "conditions": conditions.merge(before.conditions, said),
            "time": time,
            "goodput": wall_time.goodput(time),
            "selector": selector(run.uid, Role.WORKER),
        }
    )


def last_words(before: TrainingRunStatus, observed: Observed, now: datetime) -> TrainingRunStatus:
    """`before`, with what the coordinator told after the run had ended or was suspended."""
    update: dict[str, object] = {"replicas": replicas(observed)}
    state = observed.coordinator
    known = before.progress.step if before.progress else 0
    if state is not None and state.progress.step > known:
        update["progress"] = fields.progress(before, state, now)
        update["checkpoint"] = fields.checkpoint(before, state)
    return before.model_copy(update=update)


def reconciled(run: Run, observed: Observed, now: datetime, revision: Revision | None = None) -> Condition:
    """Whether the operator could do what the spec asks."""
    problem = observed.problem
    if problem is not None:
        return condition(run, now, ConditionType.RECONCILED, False, problem.reason, problem.message)
    message = "everything is as the spec asks"
    waiting = not_in_force(run, revision.frozen, observed.coordinator) if revision is not None else []
    if waiting:
        message = f"when the run is suspended and resumed, these take effect: {', '.join(waiting)}"
    return condition(run, now, ConditionType.RECONCILED, True, Reason.AS_DESIRED, message)


def progressing(situation: Situation, phase: Phase, may_start: bool) -> list[Condition]:
    """Ready, Progressing and Reconciled of a run that should train."""
    reason, message = _what_is_going_on(situation, phase, may_start)
    ready = say(situation, ConditionType.READY, phase is Phase.RUNNING, reason, message)
    moving = say(situation, ConditionType.PROGRESSING, True, reason, message)
    last = situation.log.closed[-1] if situation.log.closed else None
    if phase is not Phase.RUNNING:
        if situation.diagnosis is not None:
            held = situation.diagnosis
            moving = say(situation, ConditionType.PROGRESSING, False, held.reason, held.message)
        elif situation.stalled:
            moving = say(situation, ConditionType.PROGRESSING, False, Reason.POD_FAILED, situation.stalled)
        elif last is not None and last.cause in (Cause.STORAGE, Cause.IMAGE_OR_CONFIG):
            # These do not mend themselves: say so, even while trying again.
            moving = say(situation, ConditionType.PROGRESSING, False, last.reason, last.message)
    return [
        ready,
        moving,
        _size_refused(situation)
        or _length_refused(situation)
        or reconciled(situation.run, situation.observed, situation.now, situation.revision),
    ]


def finished(situation: Situation) -> str:
    """What is said of a run that has trained to its end, and of a length that it was given too late."""
    wanted, seen = (
        terms(situation.run).steps,
        fields.progress(situation.run.status, situation.state, situation.now),
    )
    if seen is None or seen.total_steps in (0, wanted):
        return "trained to the last step"
    return (
        f"trained to step {seen.total_steps}, the last one when it ended; that {wanted} steps are asked for"
        " came too late: another run may begin with its weights (resumeFrom)"
    )


def final(situation: Situation, succeeded: bool, reason: str, message: str) -> list[Condition]:
    """Conditions of a run that has ended."""
    return [
        say(situation, ConditionType.COMPLETE, succeeded, reason, message),
        say(situation, ConditionType.READY, False, reason, message),
        say(situation, ConditionType.PROGRESSING, False, reason, message),
        reconciled(situation.run, situation.observed, situation.now),
    ]


def say(situation: Situation, kind: ConditionType, holds: bool, reason: str, message: str) -> Condition:
    """A condition that became so now."""
    return condition(situation.run, situation.now, kind, holds, reason, message)


def condition(
    run: Run, now: datetime, kind: ConditionType, holds: bool, reason: str, message: str
) -> Condition:
    """A condition of `run`'s present generation."""
    return conditions.condition(kind, holds, reason, message, run.generation, now)


def known_step(run: Run) -> int:
    """The step that the status knows."""
    return run.status.progress.step if run.status.progress else 0


def replicas(observed: Observed) -> int:
    """Worker pods that exist and have not ended."""
    return sum(pod.live for pod in observed.workers())


def _what_is_going_on(situation: Situation, phase: Phase, may_start: bool) -> tuple[str, str]:
    if phase is Phase.RUNNING:
        return Reason.TRAINING, _who_trains(situation)
    if not may_start:
        return Reason.WAITING_FOR_COORDINATOR, situation.stalled or "the coordinator has no address yet"
    if phase is Phase.RESTARTING:
        closed = situation.log.closed
        why = f"{closed[-1].reason}: {closed[-1].message}" if closed else "waiting for all workers"
        return Reason.RESTARTING, why
    return Reason.WAITING_FOR_WORKERS, _waiting_for(situation)


def _size_refused(situation: Situation) -> Condition | None:
    if situation.observed.problem is not None or not _refusal(situation):
        return None
    return say(situation, ConditionType.RECONCILED, False, Reason.SIZE_REFUSED, _refusal(situation))


def _length_refused(situation: Situation) -> Condition | None:
    state = situation.state
    if situation.observed.problem is not None or state is None or state.terms != terms(situation.run):
        return None
    if not state.terms_refused:
        return None
    return say(situation, ConditionType.RECONCILED, False, Reason.LENGTH_REFUSED, state.terms_refused)


def _refusal(situation: Situation) -> str:
    """Why the coordinator cannot have the size that the spec asks for now; empty where it can."""
    return (
        situation.state.size_refused
        if situation.state and situation.state.size == size(situation.run)
        else ""
    )


def _who_trains(situation: Situation) -> str:
    known = situation.run.status.world
    training = len(situation.training or ()) or (known.nodes if known else situation.nodes)
    if _refusal(situation):
        return f"{training} nodes train, and go on so; {_refusal(situation)}"
    if training == situation.nodes:
        return "all workers train"
    return f"{training} nodes train; {situation.nodes} are wanted, which changes at a checkpoint"


def _waiting_for(situation: Situation) -> str:
    missing = situation.state.missing if situation.state else []
    if missing:
        shown = ", ".join(str(index) for index in missing[:8])
        return f"{situation.nodes - len(missing)} of {situation.nodes} workers have joined; missing: {shown}"
    running = sum(pod.started for pod in situation.gang.current)
    return f"{running} of {situation.nodes} worker pods run; nothing has been trained yet"


def _epoch(situation: Situation) -> int:
    known = situation.run.status.coordinator
    return max([known.epoch if known else 0, *(pod.epoch for pod in situation.observed.coordinators())])


def _blocked(situation: Situation) -> float:
    """Seconds that a checkpoint newer than the status knows has blocked the training."""
    record = situation.state.checkpoint if situation.state else None
    known = situation.run.status.checkpoint
    if record is None or (known is not None and known.uri == record.uri):
        return 0.0
    return record.seconds_blocked
