"""A run whose frozen revision another release wrote, so that nobody here knows what its pods are made of."""

from __future__ import annotations

from datetime import datetime

from footplate_contracts.names import ConditionType, Phase, Reason
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.objects import unreadable
from footplate_operator.trainingrun.desired.decision import Desired
from footplate_operator.trainingrun.gang.coordinator import reachable
from footplate_operator.trainingrun.observed import Observed
from footplate_operator.trainingrun.revision import UnreadableRevision
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status import fields
from footplate_operator.trainingrun.status.report import report


def untouched(run: Run, revision: UnreadableRevision, observed: Observed, now: datetime) -> Desired:
    """Touch nothing, say who can go on, and tell what the coordinator says meanwhile."""
    what = f"ControllerRevision {revision.name(run.name)}"
    message = unreadable(what, revision.written_by, revision.error)
    said = [NewCondition(ConditionType.RECONCILED, False, Reason.REVISION_UNREADABLE, message)]
    seen = fields.last_seen(run.status, observed.coordinator, observed.workers(), now)
    return Desired(
        status=report(run, seen, run.phase or Phase.QUEUED, said, now),
        coordinator=reachable([pod for pod in observed.coordinators() if pod.live]),
    )
