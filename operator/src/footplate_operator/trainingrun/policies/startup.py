"""Deadline of a run that has never trained, and the failures that end it before.

An image that never comes holds GPUs for nothing; after the deadline the run fails and reports what it waited
for. A wait for nodes does not count. What waiting cannot mend fails the run at once, unless it has trained
before: another node may do better.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from footplate_contracts.names import Cause, ConditionType, ExitCode, Phase, Reason
from footplate_operator.runtime.conditions import find
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.trainingrun.observation import Observed, PodView
from footplate_operator.trainingrun.policies import suspension
from footplate_operator.trainingrun.policies.diagnosis import PodDiagnosis
from footplate_operator.trainingrun.policies.failure import FailureAction, FailureDecision
from footplate_operator.trainingrun.run import Run

SCHEDULER_SECONDS: Final = 5.0  # for the scheduler to bind a pod or to say why it does not
_STARTING: Final = frozenset({None, Phase.QUEUED, Phase.ADMITTED, Phase.STARTING, Phase.SUSPENDED})


def is_untrained(phase: Phase | None) -> bool:
    """Return whether nothing has been trained since the run was admitted: nothing to save or wait for."""
    return phase in _STARTING


def waits_for_nodes(pods: Iterable[PodView], now: datetime) -> bool:
    """Return whether the scheduler finds no node for one of `pods`."""
    unbound = [pod for pod in pods if pod.unbound]
    return any(pod.unschedulable or pod.seen_for(now) >= SCHEDULER_SECONDS for pod in unbound)


def remaining(phase: Phase | None, since: datetime, deadline: float, now: datetime) -> float | None:
    """Return the seconds left to start in; None for a run that is not starting.

    Args:
        since: when `phase` began.
        deadline: `resilience.startupDeadlineSeconds`.
    """
    if phase is not Phase.STARTING:
        return None
    return deadline - (now - since).total_seconds()


def find_startup_failure(
    run: Run,
    stepped: bool,
    observed: Observed,
    held_up: PodDiagnosis | None,
    everywhere: PodDiagnosis | None,
    coordinator_error: str,
    now: datetime,
) -> FailureDecision | None:
    """Return the end of a run that cannot start; None for a run that may still, has, or is not to.

    Args:
        stepped: it has trained before, in whatever phase it is now: it is tried again, elsewhere and later.
        held_up: the diagnosis of one of its pods, if one is held up.
        everywhere: that diagnosis, if another node would not mend it.
        coordinator_error: the error of its newest coordinator, while none serves.
    """
    if not is_untrained(run.phase) or suspension.find_suspension(run, observed.spending) is not None:
        return None
    if stepped:
        return None
    if end := find_fatal_problem(everywhere, observed.problem, observed.coordinators):
        return end
    deadline = run.spec.resilience.startup_deadline_seconds
    left = remaining(run.phase, run.phase_since, deadline, now)
    if left is None or left > 0 or waits_for_nodes(observed.pods, now):
        return None
    reason = held_up.message if held_up else coordinator_error or _refusal(run) or "not all workers joined"
    message = f"not started within {deadline} s (resilience.startupDeadlineSeconds): {reason}"
    return _fail(Reason.STARTUP_DEADLINE_EXCEEDED, message)


def find_fatal_problem(
    held_up: PodDiagnosis | None, problem: ReconcileProblem | None, coordinators: Iterable[PodView]
) -> FailureDecision | None:
    """Return the end of a run that has never trained and never will as it is; None if there is hope."""
    if held_up is not None and held_up.seconds_left <= 0:
        return _fail(held_up.reason, held_up.message)
    if problem is not None and problem.final:
        return _fail(problem.reason, problem.message)
    for pod in coordinators:
        if pod.ended and pod.exit_code == ExitCode.CONFIG:
            said = pod.message or "see its log"
            return _fail(Reason.CONFIG_REFUSED, f"the coordinator refused its configuration: {said}")
    return None


def _refusal(run: Run) -> str:
    """Return the API server's last refusal of a child; empty if there is none."""
    known = find(run.status.conditions, ConditionType.RECONCILED)
    return known.message if known is not None and known.status == "False" else ""


def _fail(reason: Reason, message: str) -> FailureDecision:
    return FailureDecision(FailureAction.FAIL, Cause.IMAGE_OR_CONFIG, reason.value, message)
