"""Runs that wait for a person: queued without a profile, suspending, suspended."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from footplate_contracts.directives import Command
from footplate_contracts.names import Phase, Reason
from footplate_contracts.reports import CoordinatorState, RunState
from footplate_operator.runtime.clock import seconds_between
from footplate_operator.runtime.decision import Delete, Problem
from footplate_operator.runtime.kinds import DISRUPTION_BUDGET
from footplate_operator.trainingrun.desired.decision import POLL_SECONDS, Desired, soonest
from footplate_operator.trainingrun.desired.situation import Situation
from footplate_operator.trainingrun.directives import untold
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.coordinator import reachable
from footplate_operator.trainingrun.gang.retire import unique
from footplate_operator.trainingrun.observed import Observed
from footplate_operator.trainingrun.policies import startup, suspension
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts, fields
from footplate_operator.trainingrun.status.report import not_ready, reconciled, report

WORKER_GRACE: Final = 10  # seconds for a pod whose checkpoint is durable


def queued(run: Run, observed: Observed, now: datetime) -> Desired:
    """It cannot be admitted: say why, and what there is instead."""
    problem = observed.problem
    if problem is None:
        there = ", ".join(sorted(observed.profiles)) or "none"
        message = f"compute.profile {run.spec.compute.profile} names no ComputeProfile; there are: {there}"
        problem = Problem(Reason.PROFILE_NOT_FOUND, message)
    said = [*not_ready(problem.reason, problem.message), reconciled(problem)]
    return Desired(status=report(run, run.status, Phase.QUEUED, said, now))


def suspended(run: Run, observed: Observed, now: datetime) -> Desired:
    """No worker; Secret and RunConfig stay for the day it is resumed."""
    said = [*not_ready(Reason.SUSPENDED, "spec.suspend is true"), reconciled(observed.problem)]
    retention = run.spec.pod_retention_seconds
    coordinators = [pod for pod in observed.coordinators() if pod.live]
    removals = retire.release(observed.gang(), WORKER_GRACE)
    if retire.flushed(observed.coordinator, seconds_between(run.phase_since, now)):
        removals += retire.release(coordinators)
    removals += retire.expired(observed.pods, retention, now)
    seen = fields.last_seen(run.status, observed.coordinator, observed.workers(), now)
    return Desired(
        status=report(run, seen, Phase.SUSPENDED, said, now),
        changes=(unique(removals), _without_budget(observed)),
        coordinator=reachable(coordinators),
        requeue_after=soonest(
            POLL_SECONDS if coordinators else None, retire.next_expiry(observed.pods, retention, now)
        ),
    )


def suspending(situation: Situation) -> Desired:
    """First the checkpoint, then the pods."""
    run, state = situation.run, situation.state
    acknowledged = state.state is RunState.SUSPENDED
    began = run.phase_since if run.phase is Phase.SUSPENDING else situation.now
    step = suspension.next_step(
        training=_training(run.phase, state),
        acknowledged=acknowledged,
        waited=seconds_between(began, situation.now),
        deadline=float(run.spec.checkpoint.emergency_deadline_seconds),
    )
    if step is suspension.Step.COMMAND:
        return _ask(situation)
    if step is suspension.Step.GIVE_UP:
        return _release(situation, "no checkpoint was acknowledged in time; the newest durable one counts")
    return _release(situation, "the checkpoint is durable" if acknowledged else "there was nothing to save")


def _training(phase: Phase | None, state: CoordinatorState) -> bool:
    """Whether ranks hold steps that no checkpoint does; while they restart they hold none."""
    if startup.untrained(phase) or (phase is Phase.RESTARTING and state.heard):
        return state.state is RunState.TRAINING
    return True


def _ask(situation: Situation) -> Desired:
    said = not_ready(Reason.SUSPENDING, "waiting for the checkpoint", progressing=True)
    return Desired(
        status=situation.report(Phase.SUSPENDING, [*said, reconciled(situation.observed.problem)]),
        coordinator=situation.coordinator.current,
        directives=untold(situation.run, situation.state, Command.CHECKPOINT_AND_EXIT),
        requeue_after=POLL_SECONDS,
    )


def _release(situation: Situation, message: str) -> Desired:
    observed = situation.observed
    history = attempts.end(situation.history, Reason.SUSPENDED, message)
    said = [*not_ready(Reason.SUSPENDED, message), reconciled(observed.problem)]
    return Desired(
        status=situation.report(Phase.SUSPENDED, said, history.into(situation.seen)),
        changes=(unique(retire.release(observed.gang(), WORKER_GRACE)), _without_budget(observed)),
        coordinator=situation.coordinator.current,
        requeue_after=POLL_SECONDS,
    )


def _without_budget(observed: Observed) -> tuple[Delete, ...]:
    """The disruption budget binds while the run trains only."""
    return tuple(Delete(child) for child in observed.of_kind(DISRUPTION_BUDGET))
