"""A run that has ended: give the GPUs back, keep the logs for a while, then tidy up."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from footplate_contracts.names import Phase, Reason
from footplate_operator.runtime.clock import format_time, parse_time, seconds_between
from footplate_operator.runtime.kinds import DISRUPTION_BUDGET, SECRET, SERVICE
from footplate_operator.trainingrun.desired import report
from footplate_operator.trainingrun.desired.desired import Desired, soonest
from footplate_operator.trainingrun.desired.situation import Situation, since
from footplate_operator.trainingrun.gang import retire
from footplate_operator.trainingrun.gang.retire import PodDeletion, unique
from footplate_operator.trainingrun.manifests.coordinator import GRACE_SECONDS
from footplate_operator.trainingrun.observed import Child, Observed
from footplate_operator.trainingrun.policies import ttl
from footplate_operator.trainingrun.policies.failure import Action
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import attempts
from footplate_operator.trainingrun.status.attempts import AttemptLog

EXIT_SECONDS: Final = 4.0  # for workers of a finished run to end by themselves
STOP_SECONDS: Final = 8.0  # after which pods that do not stop are deleted
FLUSH_SECONDS: Final = 60.0  # for telemetry, where the coordinator cannot be asked
_POLL_SECONDS: Final = 1.0


def end(situation: Situation, phase: Phase, failure: Action | None) -> Desired:
    """The last word on the run; what is left is decided from the terminal phase on."""
    log = (
        attempts.end(situation.log, situation.context, Reason.FINISHED) if failure is None else situation.log
    )
    if failure is not None and log.open is not None:
        ended = attempts.end(log, situation.context, failure.reason, failure.message)
        last = ended.attempts[-1].model_copy(update={"cause": failure.cause})
        log = AttemptLog((*ended.attempts[:-1], last), ended.failures, ended.restarts)
    if failure is None:
        said = report.final(situation, True, Reason.FINISHED, report.finished(situation))
    else:
        said = report.final(situation, False, failure.reason, failure.message)
    after = report.seen(situation, phase, said, log)
    return Desired(
        status=after.model_copy(update={"completion_time": format_time(situation.now)}),
        coordinator=situation.leader.current,
        requeue_after=0.0,
    )


def ended(run: Run, observed: Observed, now: datetime) -> Desired:
    """What is still to be taken away from a run in a terminal phase."""
    finished_at = parse_time(run.status.completion_time) if run.status.completion_time else since(run)
    waited = seconds_between(finished_at, now)
    working = [pod for pod in observed.gang() if pod.live]
    leaders = [pod for pod in observed.coordinators() if pod.live]
    gone: list[PodDeletion] = []
    if run.phase is Phase.FAILED or waited >= EXIT_SECONDS:
        gone += retire.stop(working, overdue=waited >= STOP_SECONDS)
    if not working and retire.flushed(observed.coordinator, waited, FLUSH_SECONDS):
        gone += retire.release(leaders, GRACE_SECONDS)
    retention = run.spec.pod_retention_seconds
    gone += retire.expired(observed.pods, retention, now)
    busy = bool(working or leaders)
    lifetime = run.spec.ttl_seconds_after_finished
    # What the run still has to tell the API is told before it goes.
    left = None if lifetime is None or busy else ttl.remaining(finished_at, lifetime, now)
    return Desired(
        status=report.last_words(run.status, observed, now),
        pod_deletions=unique(gone),
        child_deletions=_unneeded(observed, busy),
        coordinator=max((pod for pod in leaders if pod.address), key=lambda pod: pod.epoch, default=None),
        delete_run=left is not None and left <= 0.0,
        requeue_after=soonest(
            _POLL_SECONDS if busy else None,
            retire.next_expiry(observed.pods, retention, now),
            None if left is None else max(0.0, left),
        ),
    )


def _unneeded(observed: Observed, running: bool) -> tuple[Child, ...]:
    """The record of what was trained stays: RunConfig and revision."""
    kinds = {DISRUPTION_BUDGET} if running else {DISRUPTION_BUDGET, SERVICE, SECRET}
    return tuple(child for child in observed.children if child.kind in kinds)
