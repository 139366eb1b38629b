"""What a run's budget adds to a decision: a condition, an Event, and when to look again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from footplate_contracts.names import ConditionType
from footplate_operator.runtime import conditions
from footplate_operator.trainingrun.desired.decision import Desired, soonest
from footplate_operator.trainingrun.policies import budget
from footplate_operator.trainingrun.policies.budget import Spending
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status.report import fit


def with_budget(run: Run, desired: Desired, spending: Spending | None, now: datetime) -> Desired:
    """`desired` for a run that has spent so much; None: it has no budget, and nothing is said of one."""
    known = desired.status.conditions
    if spending is None:
        said = [other for other in known if other.type != ConditionType.WITHIN_BUDGET]
        return replace(desired, status=desired.status.model_copy(update={"conditions": said}))
    told = budget.event(conditions.find(run.status.conditions, ConditionType.WITHIN_BUDGET), spending)
    said = conditions.merge(known, [spending.condition], run.generation, now)
    return replace(
        desired,
        status=fit(desired.status.model_copy(update={"conditions": said})),
        told=desired.told if told is None else (*desired.told, told),
        requeue_after=soonest(desired.requeue_after, spending.look_after),
    )
