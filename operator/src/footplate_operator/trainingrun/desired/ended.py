"""A run that has ended: give the GPUs back, keep the logs for a while, then tidy up."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from footplate_contracts.names import ConditionType, Phase, Reason
from footplate_operator.runtime.clock import format_time, parse_time, seconds_between
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.decision import Delete
from footplate_operator.runtime.kinds import DISRUPTION_BUDGET, SECRET, SERVICE
from footplate_operator.trainingrun.desired.decision import POLL_SECONDS, Desired, soonest
from footplate_operator.trainingrun.desired.situation import Situation
from footplate_operator.trainingrun.directives import limits
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.coordinator import reachable
from footplate_operator.trainingrun.gang.retire import Removal, unique
from footplate_operator.trainingrun.history import History
from footplate_operator.trainingrun.observed import Observed
from footplate_operator.trainingrun.policies import ttl
from footplate_operator.trainingrun.policies.failure import FailureDecision
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts, fields
from footplate_operator.trainingrun.status.report import finished, not_ready, reconciled

EXIT_SECONDS: Final = 4.0  # for workers of a finished run to end by themselves
STOP_SECONDS: Final = 8.0  # after which pods that do not stop are deleted


def succeed(situation: Situation) -> Desired:
    """The run has trained to its last step."""
    history = attempts.end(situation.history, Reason.FINISHED)
    progress = situation.seen.progress
    message = finished(progress.total_steps if progress else 0, limits(situation.run).steps)
    return _end(situation, history, Phase.SUCCEEDED, Reason.FINISHED, message)


def fail(situation: Situation, failure: FailureDecision) -> Desired:
    """The run ends with `failure`."""
    history = attempts.fail(situation.history, failure)
    return _end(situation, history, Phase.FAILED, failure.reason, failure.message)


def ended(run: Run, observed: Observed, now: datetime) -> Desired:
    """What is still to be taken away from a run in a terminal phase."""
    finished_at = parse_time(run.status.completion_time) if run.status.completion_time else run.phase_since
    waited = seconds_between(finished_at, now)
    working = [pod for pod in observed.gang() if pod.live]
    coordinators = [pod for pod in observed.coordinators() if pod.live]
    removals: list[Removal] = []
    if run.phase is Phase.FAILED or waited >= EXIT_SECONDS:
        removals += retire.stop(working, overdue=waited >= STOP_SECONDS)
    if not working and retire.flushed(observed.coordinator, waited):
        removals += retire.release(coordinators)
    retention = run.spec.pod_retention_seconds
    removals += retire.expired(observed.pods, retention, now)
    busy = bool(working or coordinators)
    lifetime = run.spec.ttl_seconds_after_finished
    # What the run still has to tell the API is told before it goes.
    left = None if lifetime is None or busy else ttl.remaining(finished_at, lifetime, now)
    # RunConfig and revision stay: they are the record of what was trained.
    unneeded = (DISRUPTION_BUDGET,) if busy else (DISRUPTION_BUDGET, SERVICE, SECRET)
    return Desired(
        status=fields.last_seen(run.status, observed.coordinator, observed.workers(), now),
        changes=(
            unique(removals),
            tuple(Delete(child) for child in observed.of_kind(*unneeded)),
            (Delete(run.reference),) if left is not None and left <= 0.0 else (),
        ),
        coordinator=reachable(coordinators),
        requeue_after=soonest(
            POLL_SECONDS if busy else None,
            *(due - waited for due in (EXIT_SECONDS, STOP_SECONDS) if working and due > waited),
            retire.next_expiry(observed.pods, retention, now),
            None if left is None else max(0.0, left),
        ),
    )


def _end(situation: Situation, history: History, phase: Phase, reason: str, message: str) -> Desired:
    """What is left to be done is decided from the terminal phase on."""
    said = [
        NewCondition(ConditionType.COMPLETE, phase is Phase.SUCCEEDED, reason, message),
        *not_ready(reason, message),
        reconciled(situation.observed.problem),
    ]
    seen = history.into(situation.seen).model_copy(update={"completion_time": format_time(situation.now)})
    return Desired(
        status=situation.report(phase, said, seen),
        coordinator=situation.coordinator.current,
        requeue_after=0.0,
    )
