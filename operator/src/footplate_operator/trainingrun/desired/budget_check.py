"""Checks a run's budget by its usage, else by its status."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from footplate_contracts.names import ConditionType
from footplate_contracts.v1alpha1.budget import Budget
from footplate_contracts.v1alpha1.status import CostStatus
from footplate_ledger.account import Tariff
from footplate_ledger.conversion import parse_time
from footplate_ledger.cost_cache import RunCostCache
from footplate_ledger.intervals import unix_second
from footplate_ledger.prices import FOREVER
from footplate_operator.runtime import conditions
from footplate_operator.trainingrun.observation import BudgetAssessment
from footplate_operator.trainingrun.policies import budget
from footplate_operator.trainingrun.run import Run
from footplate_operator.trainingrun.status.cost import account_from
from footplate_operator.usage.owner_usage import OwnerUsage


@dataclass(frozen=True)
class BudgetCheck:
    """Cached result of a budget check; valid until the second `until`, if nothing else changes.

    An account of hundreds of pods takes longer than the rest of a decision, and events arrive every second.
    """

    budget: Budget
    usage: OwnerUsage
    tariff: Tariff
    until: int
    spending: BudgetAssessment

    def is_valid(self, budget: Budget, usage: OwnerUsage, tariff: Tariff, at: int) -> bool:
        """Return whether the result is valid in the second `at`, for the same budget, usage and tariff."""
        return at < self.until and tariff is self.tariff and (budget, usage) == (self.budget, self.usage)


def check_budget(
    run: Run,
    usage: OwnerUsage | None,
    tariff: Tariff | None,
    now: datetime,
    before: BudgetCheck | None,
    known: RunCostCache | None = None,
) -> BudgetCheck | None:
    """Check the budget by an account; return None without a budget, or without data to count by.

    Deleted records prove nothing: the status holds what was counted by them.

    Args:
        before: the previous result.
        known: earlier accounts.
    """
    limit, at = run.spec.budget, unix_second(now)
    if limit is None or usage is None or tariff is None or (not usage.pods and run.status.cost is not None):
        return None
    if before is not None and before.is_valid(limit, usage, tariff, at):
        return before
    found = budget.assess_budget(limit, cache(account_from(usage, tariff, at, known)), at)
    until = FOREVER if found.look_after is None else at + found.look_after
    return BudgetCheck(limit, usage, tariff, until, found)


def get_assessment(
    run: Run, judgement: BudgetCheck | None, now: datetime, known: bool = True
) -> BudgetAssessment | None:
    """Return what a run has spent of its budget, from the check, else from its status; None without a budget.

    `known`: usage and tariff are known; while they are not, a run that goes on may have spent more.
    """
    if run.spec.budget is None:
        return None
    if judgement is None:
        cost = run.status.cost or CostStatus()
        found = budget.assess_from_status(run.spec.budget, cost, known or _is_final(run.ended, cost))
    else:
        left = None if judgement.until == FOREVER else judgement.until - unix_second(now)
        found = replace(judgement.spending, look_after=left)
    said = conditions.find(run.status.conditions, ConditionType.WITHIN_BUDGET)
    return budget.apply_hysteresis(run.spec.budget, found, said.message if said is not None else "")


def _is_final(ended: datetime | None, cost: CostStatus) -> bool:
    """Return whether the status counts all of the run's usage."""
    return ended is not None and cost.until is not None and parse_time(cost.until) >= unix_second(ended)
