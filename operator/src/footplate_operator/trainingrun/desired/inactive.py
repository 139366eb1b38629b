"""Decisions about runs without a gang: ended, suspended, queued, or frozen by another release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from footplate_contracts.names import ConditionType, Phase, Reason, secret_name
from footplate_contracts.v1alpha1.status import GatheringStatus, TrainingRunStatus
from footplate_operator.runtime.clock import format_time, seconds_between
from footplate_operator.runtime.conditions import NewCondition, find
from footplate_operator.runtime.decision import Delete, ReconcileProblem
from footplate_operator.runtime.kinds import DISRUPTION_BUDGET, NETWORK_POLICY, SECRET, SERVICE
from footplate_operator.runtime.objects import Child
from footplate_operator.runtime.throttle import StatusChange
from footplate_operator.trainingrun.desired.decision import POLL_SECONDS, RunDecision, soonest
from footplate_operator.trainingrun.events import unstored_status_event
from footplate_operator.trainingrun.gang import retirement
from footplate_operator.trainingrun.observation import Observed
from footplate_operator.trainingrun.policies import deletion
from footplate_operator.trainingrun.policies.suspension import SuspensionRequest
from footplate_operator.trainingrun.revision import MissingRevision, UnreadableRevision
from footplate_operator.trainingrun.run import Run, get_gathering
from footplate_operator.trainingrun.status.observed_fields import update_conditions, update_ended_status
from footplate_operator.trainingrun.status.report import compare, fit, not_training, report, suspended
from footplate_operator.trainingrun.status.wait_messages import waiting_for_turn

LABELS_SECONDS: Final = 10.0  # between two looks for labels of Nodes and namespaces
_UNWATCHED: Final = (Reason.TOPOLOGY_UNKNOWN, Reason.CONFIG_REFUSED)  # which labels may have mended


def decide_ended(run: Run, ended_at: datetime, observed: Observed, now: datetime) -> RunDecision:
    """Return the decision about a run in a terminal phase: which of its children to delete."""
    status = update_ended_status(run, observed, now)
    pods = retirement.retire_ended(
        run, status, observed, seconds_between(ended_at + run.unobserved, now), now
    )
    # RunConfig and revision stay: they are the record of what was trained.
    unneeded = (DISRUPTION_BUDGET,) if pods.busy else (DISRUPTION_BUDGET, SERVICE, NETWORK_POLICY)
    secret = [] if pods.busy else _secret(run, observed)
    # What the run still has to tell the API is told before it goes.
    end = None if pods.busy else _end(run, ended_at, status, observed, now)
    return RunDecision(
        status=fit(status),
        changes=(
            pods.removals,
            tuple(secret),
            tuple(Delete(child) for child in observed.of_kind(*unneeded)),
            (Delete(run.reference),) if end is not None and end.due else (),
        ),
        told=(unstored_status_event(observed.recorded),) if end is not None and end.unrecorded else (),
        coordinator=observed.reachable_coordinator,
        ask_api=end is not None and end.ask,
        requeue_after=soonest(
            *pods.waits,
            POLL_SECONDS if pods.busy else None,
            None if end is None else max(0.0, end.left),
        ),
    )


def _secret(run: Run, observed: Observed) -> list[Delete]:
    """Delete the Secret before the Service, whose absence then proves that the Secret was deleted.

    The operator may not read Secrets.
    """
    if not observed.of_kind(SERVICE):
        return []
    return [Delete(Child(kind=SECRET, name=secret_name(run.name), uid="", namespace=run.namespace))]


def _end(
    run: Run, ended_at: datetime, status: TrainingRunStatus, observed: Observed, now: datetime
) -> deletion.Deletion | None:
    """Return the deletion of the run itself; None if it stays."""
    lifetime, recorded = run.spec.ttl_seconds_after_finished, observed.recorded
    if lifetime is None or observed.awaited:
        return None
    if recorded is not None and compare(run.status, status) is not StatusChange.NOTHING:
        recorded = replace(recorded, known=False)  # the final status is still to be written
    return deletion.plan_deletion(ended_at, lifetime, recorded, now)


def decide_suspended(run: Run, asked: SuspensionRequest, observed: Observed, now: datetime) -> RunDecision:
    """Return the decision about a suspended run: no workers; Secret and RunConfig stay for its resumption."""
    seen = update_ended_status(run, observed, now)
    pods = retirement.retire_suspended(run, seen, observed, seconds_between(run.phase_since, now), now)
    # How it came to be so is worth more, where that is known: which step is durable.
    known = find(run.status.conditions, ConditionType.READY)
    told = known.message if known is not None and known.reason == asked.reason else ""
    said = suspended(asked.reason, told or asked.message, observed.problem)
    return RunDecision(
        status=report(run, seen, Phase.SUSPENDED, said, now),
        changes=(pods.removals, tuple(Delete(child) for child in observed.of_kind(DISRUPTION_BUDGET))),
        coordinator=observed.reachable_coordinator,
        requeue_after=soonest(*pods.waits, POLL_SECONDS if pods.busy else None),
    )


def decide_queued(run: Run, observed: Observed, now: datetime) -> RunDecision:
    """Return the decision about a run that cannot be admitted: report the problem, or the known profiles."""
    problem = observed.problem
    if problem is None:
        there = ", ".join(sorted(observed.profiles)) or "none"
        message = f"compute.profile {run.spec.compute.profile} is not a ComputeProfile; existing: {there}"
        problem = ReconcileProblem(Reason.PROFILE_NOT_FOUND, message)
    said = not_training(problem.reason, problem.message, None if problem.waiting else problem)
    desired = _without_gang(run, observed, Phase.QUEUED, said, now)
    again = LABELS_SECONDS if problem.reason in _UNWATCHED else None
    return replace(desired, requeue_after=soonest(desired.requeue_after, again))


def decide_refused_revision(run: Run, observed: Observed, now: datetime) -> RunDecision:
    """Return the decision about a run whose revision the API server refused: no pod, an unchanged phase."""
    problem = observed.problem
    if problem is None:  # over in a moment
        known = update_conditions(run, observed, now)
        return RunDecision(status=fit(run.status.model_copy(update={"conditions": known})))
    said = not_training(problem.reason, problem.message, problem)
    return RunDecision(
        status=report(run, update_ended_status(run, observed, now), run.phase or Phase.QUEUED, said, now)
    )


def decide_waiting(run: Run, observed: Observed, now: datetime) -> RunDecision:
    """Return the decision about a run that waits for its turn, without a pod."""
    turn, before = observed.turn, get_gathering(run.status)
    retry = turn.retry
    waits = before or GatheringStatus(since=format_time(now))
    gathering = waits.model_copy(update={"turn_time": None})
    said = not_training(*waiting_for_turn(run, gathering, turn), observed.problem)
    desired = _without_gang(run, observed, Phase.QUEUED, said, now, gathering)
    # No watch tells when a running gang has all its pods again.
    left = None if retry is None else seconds_between(now, retry)
    poll = POLL_SECONDS if turn.yields and turn.place == 1 else None
    return replace(desired, requeue_after=soonest(desired.requeue_after, left, poll))


def _without_gang(
    run: Run,
    observed: Observed,
    phase: Phase,
    said: Sequence[NewCondition],
    now: datetime,
    gathering: GatheringStatus | None = None,
) -> RunDecision:
    """Return the decision about a run that has no gang, and deletes the remains of an earlier one."""
    seen = update_ended_status(run, observed, now).model_copy(update={"gathering": gathering})
    pods = retirement.retire_suspended(run, seen, observed, seconds_between(run.phase_since, now), now)
    return RunDecision(
        status=report(run, seen, phase, said, now),
        changes=(pods.removals,),
        coordinator=observed.reachable_coordinator,
        requeue_after=soonest(*pods.waits, POLL_SECONDS if pods.busy else None),
    )


def decide_unknown_revision(
    run: Run, revision: UnreadableRevision | MissingRevision, observed: Observed, now: datetime
) -> RunDecision:
    """Return the decision about a run whose revision this operator cannot read: report the problem only.

    Nothing is created or deleted; the operator still polls its coordinator.
    """
    return _untouched(run, Reason.REVISION_UNREADABLE, revision.problem(run.name), observed, now)


def decide_unknown_credentials(run: Run, observed: Observed, now: datetime) -> RunDecision:
    """Return the decision about a run whose credentials are unknown: report the problem, and look again."""
    message = (
        f"this operator neither knows nor may read the content of Secret {secret_name(run.name)}: an earlier"
        " operator, or one with another key, created it, and it was not handed over. Training continues;"
        " nothing is created or deleted until `helm upgrade` hands it over, or the key is restored"
    )
    desired = _untouched(run, Reason.CREDENTIALS_UNKNOWN, message, observed, now)
    return replace(desired, requeue_after=POLL_SECONDS)


def _untouched(run: Run, reason: Reason, message: str, observed: Observed, now: datetime) -> RunDecision:
    said = [NewCondition(ConditionType.RECONCILED, False, reason, message)]
    return RunDecision(
        status=report(run, update_ended_status(run, observed, now), run.phase or Phase.QUEUED, said, now),
        coordinator=observed.reachable_coordinator,
    )
