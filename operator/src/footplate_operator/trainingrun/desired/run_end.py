"""Decisions about a run that stops training: last step, failure, suspension, or release of its nodes."""

from __future__ import annotations

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Command
from footplate_contracts.names import ConditionType, Phase, Reason
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.status import GatheringStatus
from footplate_operator.runtime.clock import format_time, seconds_between
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.decision import Create, Delete
from footplate_operator.runtime.kinds import DISRUPTION_BUDGET
from footplate_operator.trainingrun.desired.assessment import RunAssessment
from footplate_operator.trainingrun.desired.decision import POLL_SECONDS, RunDecision
from footplate_operator.trainingrun.desired.release import NodeRelease
from footplate_operator.trainingrun.desired.successor import coordinator_pod, next_coordinator
from footplate_operator.trainingrun.directives import directives, find_unsent, limits
from footplate_operator.trainingrun.gang import retirement
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.policies import startup, suspension
from footplate_operator.trainingrun.policies.failure import FailureDecision
from footplate_operator.trainingrun.policies.suspension import SuspensionRequest
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.report import (
    already_trained,
    describe_answers,
    describe_end,
    not_training,
    nothing_to_train,
    suspended,
)


def succeed(situation: RunAssessment) -> RunDecision:
    """Return the decision about a run that has trained its last step."""
    progress = situation.seen.progress
    total = progress.total_steps if progress else 0
    if not STAGES[situation.run.spec.stage].trains:
        # It has no checkpoints: a start at its last step is one that found its own answers.
        reason, message = Reason.FINISHED, describe_answers(progress.step if progress else 0)
    elif already_trained(situation.gang.state, situation.seen, situation.history.attempts, total):
        reason = Reason.NOTHING_TO_TRAIN
        message = nothing_to_train(situation.run.spec.checkpoint.uri, total)
    else:
        reason, message = Reason.FINISHED, describe_end(total, limits(situation.run).steps)
    history = attempts.end(situation.history, reason)
    return _end(situation, history, Phase.SUCCEEDED, reason, message)


def fail(situation: RunAssessment, failure: FailureDecision) -> RunDecision:
    """Return the decision that ends the run with `failure`."""
    history = attempts.end(situation.history, failure.reason, failure.message, failure.cause)
    return _end(situation, history, Phase.FAILED, failure.reason, failure.message)


def _end(situation: RunAssessment, history: History, phase: Phase, reason: str, message: str) -> RunDecision:
    """Write the terminal phase; the next decision does the rest."""
    outcome = ConditionType.COMPLETE if phase is Phase.SUCCEEDED else ConditionType.FAILED
    said = [
        NewCondition(outcome, True, reason, message),
        *not_training(reason, message, situation.gang.observed.problem),
    ]
    discard = phase is Phase.FAILED  # pods are told to end next, and need not save before
    return RunDecision(
        status=situation.report(phase, said, history, completion_time=format_time(situation.now)),
        coordinator=situation.gang.coordinator.current,
        directives=directives(situation.run, Command.DISCARD) if discard else None,
        requeue_after=0.0,
    )


def suspend(situation: RunAssessment, asked: SuspensionRequest) -> RunDecision:
    """Return the decision to suspend: request the checkpoint first, then delete the pods."""
    run, state = situation.run, situation.gang.state
    acknowledged = state.state is RunState.SUSPENDED
    began = run.phase_since if run.phase is Phase.SUSPENDING else situation.now
    step = suspension.next_step(
        training=_training(situation),
        acknowledged=acknowledged,
        waited=seconds_between(began, situation.now),
        deadline=float(run.spec.checkpoint.emergency_deadline_seconds),
    )
    if step is suspension.SuspensionStep.COMMAND:
        return _ask(situation, asked)
    if step is suspension.SuspensionStep.GIVE_UP:
        return _release(situation, asked, f"no checkpoint was acknowledged in time; {_durable(situation)}")
    return _release(situation, asked, _durable(situation) if acknowledged else "there was nothing to save")


def decide_release(situation: RunAssessment, release: NodeRelease) -> RunDecision:
    """Return the decision to delete all pods and to wait for the next turn."""
    gang, before = situation.gang, situation.run.status.gathering
    ended = attempts.end(attempts.begin(situation.history), release.reason, release.message)
    said = not_training(release.reason, release.message, gang.observed.problem)
    now = format_time(situation.now)
    gathering = GatheringStatus(
        since=before.since if before else now,
        # A gang that only yields comes next again as soon as the other one has its pod.
        released_time=now if release.lost_turn else None,
        lost_turns=(before.lost_turns if before else 0) + release.lost_turn,
    )
    return RunDecision(
        status=situation.report(Phase.QUEUED, said, attempts.without_repetition(ended), gathering=gathering),
        changes=(tuple(retirement.release(gang.observed)),),
        coordinator=gang.coordinator.current,
        requeue_after=POLL_SECONDS,
    )


def _durable(situation: RunAssessment) -> str:
    """Describe which step is saved, and how many steps after it are lost."""
    checkpoint, progress = situation.seen.checkpoint, situation.seen.progress
    durable, reached = checkpoint.latest_step if checkpoint else 0, progress.step if progress else 0
    said = f"step {durable} is durable" if checkpoint else "no step is durable"
    lost = reached - durable
    if lost > 0:
        least = "at least " if situation.gang.state.unheard else ""
        return f"{said}; {least}{lost} step{'s' if lost > 1 else ''} after it are lost"
    unheard = situation.gang.state.unheard and situation.history.generation
    return f"{said}; all later training is lost" if unheard else said


def _training(situation: RunAssessment) -> bool:
    """Return whether ranks hold steps that no checkpoint holds; ranks that restart hold none."""
    phase, state = situation.run.phase, situation.gang.state
    if phase is Phase.STARTING and not state.is_received:
        # Whoever leads since a moment ago knows nothing yet of what was trained while nobody looked.
        return any(pod.started for pod in situation.gang.observed.workers)
    if startup.is_untrained(phase) or (phase is Phase.RESTARTING and state.is_received):
        return state.state is RunState.TRAINING
    return True


def _ask(situation: RunAssessment, asked: SuspensionRequest) -> RunDecision:
    gang = situation.gang
    problem = gang.observed.problem
    reason = Reason.SUSPENDING if asked is suspension.BY_HAND else asked.reason
    said = not_training(reason, asked.build_message("waiting for the checkpoint"), problem, progressing=True)
    decided = {"coordinator": next_coordinator(situation)} if gang.new_epoch else {}
    return RunDecision(
        status=situation.report(Phase.SUSPENDING, said, situation.history, **decided),
        changes=((Create(coordinator_pod(situation)),),) if gang.new_epoch else (),
        coordinator=situation.gang.coordinator.current,
        directives=find_unsent(
            directives(situation.run, Command.CHECKPOINT_AND_EXIT, situation.gang.gone), situation.gang.state
        ),
        requeue_after=POLL_SECONDS,
    )


def _release(situation: RunAssessment, asked: SuspensionRequest, state: str) -> RunDecision:
    observed, message = situation.gang.observed, asked.build_message(state)
    history = attempts.end(situation.history, asked.reason, message)
    said = suspended(asked.reason, message, observed.problem)
    return RunDecision(
        status=situation.report(Phase.SUSPENDED, said, history),
        changes=(
            tuple(retirement.release(observed)),
            tuple(Delete(child) for child in observed.of_kind(DISRUPTION_BUDGET)),
        ),
        coordinator=situation.gang.coordinator.current,
        requeue_after=POLL_SECONDS,
    )
