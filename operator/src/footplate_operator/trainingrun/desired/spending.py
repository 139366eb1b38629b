"""What a run has spent of its budget, and what that adds to a decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import cache, partial

from footplate_contracts.names import ConditionType
from footplate_contracts.v1alpha1.status import CostStatus
from footplate_ledger.account import Tariff
from footplate_ledger.time import second
from footplate_operator.runtime import conditions
from footplate_operator.trainingrun.desired.decision import Desired, soonest
from footplate_operator.trainingrun.policies import budget
from footplate_operator.trainingrun.policies.budget import Spending
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status.cost import account
from footplate_operator.trainingrun.status.report import fit
from footplate_operator.usage.known import OwnUsage


def spent(run: Run, usage: OwnUsage | None, tariff: Tariff, now: datetime) -> Spending | None:
    """Of the budget of `run`, if it has one; `usage` is None while it is not known.

    Records that are gone say nothing: what was counted by them stands in the status.
    """
    if run.spec.budget is None:
        return None
    if usage is None or (not usage.pods and run.status.cost is not None):
        return budget.remembered(run.spec.budget, run.status.cost or CostStatus())
    return budget.spending(run.spec.budget, cache(partial(account, usage, tariff)), second(now))


def judged(run: Run, spending: Spending | None) -> Run:
    """`run`, knowing whether it is to be suspended for what it has spent."""
    return replace(run, exceeded="" if spending is None else spending.exceeded)


def with_budget(run: Run, desired: Desired, spending: Spending | None, now: datetime) -> Desired:
    """`desired`, with a condition and a look for a run that has spent so much; None: it has no budget."""
    known = desired.status.conditions
    if spending is None:
        said = [other for other in known if other.type != ConditionType.WITHIN_BUDGET]
        return replace(desired, status=desired.status.model_copy(update={"conditions": said}))
    said = conditions.merge(known, [spending.condition], run.generation, now)
    return replace(
        desired,
        status=fit(desired.status.model_copy(update={"conditions": said})),
        requeue_after=soonest(desired.requeue_after, spending.look_after),
    )
