"""Runs that wait for a person: queued without a profile, suspending, suspended."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from footplate_contracts.names import ConditionType, Phase, Reason
from footplate_contracts.reports import Command, RunState
from footplate_operator.runtime.clock import seconds_between
from footplate_operator.runtime.kinds import DISRUPTION_BUDGET
from footplate_operator.trainingrun.desired import report
from footplate_operator.trainingrun.desired.desired import Desired, soonest
from footplate_operator.trainingrun.desired.situation import UNTRAINED, Situation, since
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.retire import PodDeletion, unique
from footplate_operator.trainingrun.manifests.coordinator import GRACE_SECONDS
from footplate_operator.trainingrun.observed import Child, Observed, PodView
from footplate_operator.trainingrun.policies import suspension
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts

POLL_SECONDS: Final = 2.0
WORKER_GRACE: Final = 10  # seconds for a pod whose checkpoint is durable
FLUSH_SECONDS: Final = 30.0  # for telemetry, where the coordinator cannot be asked


def queued(run: Run, observed: Observed, now: datetime) -> Desired:
    """It cannot be admitted: say why, and what there is instead."""
    wanted = run.spec.compute.profile
    profiles = observed.profiles or {}
    if observed.problem is not None:
        reason, message = observed.problem.reason, observed.problem.message
    else:
        there = ", ".join(sorted(profiles)) or "none"
        reason = Reason.PROFILE_NOT_FOUND
        message = f"compute.profile {wanted} names no ComputeProfile; there are: {there}"
    said = [
        report.condition(run, now, kind, False, reason, message)
        for kind in (ConditionType.RECONCILED, ConditionType.PROGRESSING, ConditionType.READY)
    ]
    return Desired(status=report.basic(run, Phase.QUEUED, now, said, step=report.known_step(run)))


def suspended(run: Run, observed: Observed, now: datetime) -> Desired:
    """No worker; Secret and RunConfig stay for the day it is resumed."""
    message = "spec.suspend is true"
    said = [
        report.condition(run, now, ConditionType.READY, False, Reason.SUSPENDED, message),
        report.condition(run, now, ConditionType.PROGRESSING, False, Reason.SUSPENDED, message),
        report.reconciled(run, observed, now),
    ]
    after = report.basic(run, Phase.SUSPENDED, now, said, step=report.known_step(run))
    retention = run.spec.pod_retention_seconds
    leaders = [pod for pod in observed.coordinators() if pod.live]
    gone = [
        *retire.release(observed.gang(), WORKER_GRACE),
        *_flushed(run, observed, leaders, now),
        *retire.expired(observed.pods, retention, now),
    ]
    return Desired(
        status=report.last_words(after, observed, now),
        pod_deletions=unique(gone),
        child_deletions=budgets(observed),
        coordinator=max((pod for pod in leaders if pod.address), key=lambda pod: pod.epoch, default=None),
        requeue_after=soonest(
            POLL_SECONDS if leaders else None, retire.next_expiry(observed.pods, retention, now)
        ),
    )


def suspending(situation: Situation) -> Desired:
    """First the checkpoint, then the pods."""
    run = situation.run
    acknowledged = situation.state is not None and situation.state.state is RunState.SUSPENDED
    began = since(run) if run.phase is Phase.SUSPENDING else situation.now
    step = suspension.next_step(
        training=_training(situation),
        acknowledged=acknowledged,
        waited=seconds_between(began, situation.now),
        deadline=float(run.spec.checkpoint.emergency_deadline_seconds),
    )
    if step is suspension.Step.COMMAND:
        return _ask(situation)
    if step is suspension.Step.GIVE_UP:
        return _release(situation, "no checkpoint was acknowledged in time; the newest durable one counts")
    return _release(situation, "the checkpoint is durable" if acknowledged else "there was nothing to save")


def budgets(observed: Observed) -> tuple[Child, ...]:
    """The disruption budget, which binds while the run trains only."""
    return tuple(child for child in observed.children if child.kind == DISRUPTION_BUDGET)


def _training(situation: Situation) -> bool:
    """Whether ranks hold steps that no checkpoint does; while they restart they hold none."""
    if situation.run.phase in UNTRAINED:
        return situation.state is not None and situation.state.state is RunState.TRAINING
    if situation.run.phase is Phase.RESTARTING and situation.state is not None:
        return situation.state.state is RunState.TRAINING
    return True


def _ask(situation: Situation) -> Desired:
    message = "waiting for the checkpoint"
    said = [
        report.say(situation, ConditionType.READY, False, Reason.SUSPENDING, message),
        report.say(situation, ConditionType.PROGRESSING, True, Reason.SUSPENDING, message),
        report.reconciled(situation.run, situation.observed, situation.now),
    ]
    return Desired(
        status=report.seen(situation, Phase.SUSPENDING, said),
        coordinator=situation.leader.current,
        command=Command.CHECKPOINT_AND_EXIT,
        terms=situation.new_terms,
        requeue_after=POLL_SECONDS,
    )


def _release(situation: Situation, message: str) -> Desired:
    log = attempts.end(situation.log, situation.context, Reason.SUSPENDED, message)
    said = [
        report.say(situation, ConditionType.READY, False, Reason.SUSPENDED, message),
        report.say(situation, ConditionType.PROGRESSING, False, Reason.SUSPENDED, message),
        report.reconciled(situation.run, situation.observed, situation.now),
    ]
    return Desired(
        status=report.seen(situation, Phase.SUSPENDED, said, log),
        pod_deletions=unique(retire.release(situation.observed.gang(), WORKER_GRACE)),
        child_deletions=budgets(situation.observed),
        coordinator=situation.leader.current,
        requeue_after=POLL_SECONDS,
    )


def _flushed(run: Run, observed: Observed, leaders: list[PodView], now: datetime) -> list[PodDeletion]:
    """Coordinators whose telemetry is out, or has had its time."""
    if not retire.flushed(observed.coordinator, seconds_between(since(run), now), FLUSH_SECONDS):
        return []
    return retire.release(leaders, GRACE_SECONDS)
