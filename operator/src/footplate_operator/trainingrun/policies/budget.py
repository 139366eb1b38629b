"""Assesses a run's budget: the amounts spent, the consequence, and the time of the next look; pure.

A budget is nearly spent from 80 % on. The future cost of the present pods is known beforehand, with
price changes that are in the book by then: so the code computes the second in which a share is reached, and
no poll is needed. New pods and new price entries are events, which cause a new computation.

Unknown amounts do not count as spent, nor as zero: the condition is Unknown then, unless the known amounts
exceed the budget already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import Final

from footplate_contracts.names import ConditionType, Reason
from footplate_contracts.v1alpha1.budget import Budget, OnExceeded
from footplate_contracts.v1alpha1.status import CostStatus
from footplate_ledger.account import Account
from footplate_ledger.conversion import decimal_fraction
from footplate_ledger.energy import EnergyMethod
from footplate_ledger.units import Carbon, Money, Seconds
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.trainingrun.observation import BudgetAssessment, BudgetLevel

NEARLY: Final = Fraction(4, 5)
LONGEST_LOOK: Final = 300  # seconds; a run is looked at anyway about as often
_PER_KILOGRAM: Final = 1000  # grams, which is what the ledger counts
_UNKNOWN: Final = {
    Reason.SPENDING_UNKNOWN: "its spending since the last count is unknown, as its UsageRecords,"
    " PriceEntries or CarbonIntensities cannot be read; see the operator's log",
    Reason.PRICE_UNKNOWN: "some of its nodes have no price, and are not counted; set price in their"
    " ComputeProfile, or create a PriceEntry",
    Reason.ENERGY_UNKNOWN: "the power of some of its nodes is unknown, and is not counted; set"
    " gpu.tdpWatts or energy.nodeWatts in their ComputeProfile",
}


@dataclass(frozen=True)
class SpentAmounts:
    """Amounts that a run has spent by some second, and whether they are complete."""

    money: Money = field(default_factory=Money)
    priced: bool = True
    carbon: Carbon = field(default_factory=Carbon)
    measured: bool = True

    @classmethod
    def from_account(cls, account: Account) -> SpentAmounts:
        """Build the amounts from an account."""
        doubtful = account.consumption.seconds.get(EnergyMethod.UNKNOWN, Seconds()).exact
        known = account.is_energy_known or not account.cost.node_seconds.exact
        return cls(
            account.cost.money, not account.cost.unpriced.exact, account.emitted, known and not doubtful
        )

    @classmethod
    def from_status(cls, cost: CostStatus) -> SpentAmounts:
        """Build the amounts from the status, while there is no account."""
        money, carbon = cost.dollars or 0.0, cost.carbon_kilograms or 0.0
        return cls(
            Money(decimal_fraction(money) * Money.NANO),
            not cost.unpriced_node_seconds,
            Carbon(decimal_fraction(carbon) * _PER_KILOGRAM),
            not cost.node_seconds
            if cost.carbon_kilograms is None
            else EnergyMethod.UNKNOWN not in cost.method,
        )


@dataclass(frozen=True)
class _Limit:
    """Amount of a budget, and the share of it that is spent."""

    said: str
    share: Fraction
    unknown: Reason | None  # something more may be


def assess_from_status(budget: Budget, cost: CostStatus, known: bool = True) -> BudgetAssessment:
    """Assess `budget` by the cost in the run's status, while no usage is known.

    `known`: nothing else was used since.
    """
    limits = _limits(budget, SpentAmounts.from_status(cost))
    if not known:
        limits = [replace(limit, unknown=Reason.SPENDING_UNKNOWN) for limit in limits]
    return _spending(budget, limits, limits, None)


def assess_budget(budget: Budget, account_at: Callable[[int], Account], at: int) -> BudgetAssessment:
    """Assess `budget` by an account.

    Args:
        account_at: the cost of the run's pods by a second, if they go on.
        at: the second of now.
    """
    now = _limits(budget, SpentAmounts.from_account(account_at(at)))
    # A pod that was just bound has cost nothing yet: whether it has a price shows by and by.
    soon = _limits(budget, SpentAmounts.from_account(account_at(at + LONGEST_LOOK)))
    return _spending(budget, now, soon, _look_after(budget, account_at, at, _level(_worst(now).share)))


def _spending(
    budget: Budget, now: Sequence[_Limit], soon: Sequence[_Limit], look_after: int | None
) -> BudgetAssessment:
    worst = _worst(now)
    level = _level(worst.share)
    unknown = next((limit.unknown for limit in soon if limit.unknown), None)
    suspends = level is BudgetLevel.EXCEEDED and budget.on_exceeded is OnExceeded.SUSPEND
    return BudgetAssessment(
        level=level,
        condition=_condition(level, now, unknown, suspends),
        exceeded=f"{worst.said} is spent" if suspends else "",
        look_after=look_after,
        nearly=tuple(limit.said for limit in now if limit.share >= NEARLY),
    )


def apply_hysteresis(budget: Budget, found: BudgetAssessment, said: str) -> BudgetAssessment:
    """Return `found`, raised to EXCEEDED for a suspended run whose spending stays above 80 %.

    Later data may lower the amounts: a pod's end a few seconds earlier, measured energy. A
    run that is suspended for an amount stays so while 80 % of it are spent, or it would go on for seconds,
    and be suspended again. `said` is the message of the run's condition WithinBudget until now.
    """
    if found.level is not BudgetLevel.NEARLY or budget.on_exceeded is not OnExceeded.SUSPEND:
        return found
    for limit in _limits(budget, SpentAmounts()):
        spent = _condition(BudgetLevel.EXCEEDED, [limit], None, suspends=True)
        if limit.said in found.nearly and spent.message == said:
            exceeded = f"{limit.said} is spent"
            return replace(
                found, level=BudgetLevel.EXCEEDED, condition=spent, exceeded=exceeded, look_after=None
            )
    return found


def _level(share: Fraction) -> BudgetLevel:
    if share >= 1:
        return BudgetLevel.EXCEEDED
    return BudgetLevel.NEARLY if share >= NEARLY else BudgetLevel.WITHIN


def _worst(limits: Sequence[_Limit]) -> _Limit:
    return max(limits, key=lambda limit: limit.share)


def _limits(budget: Budget, spent: SpentAmounts) -> Sequence[_Limit]:
    """Return the limits of the budget; at least one, as the API server requires it."""
    found = []
    if budget.dollars is not None:
        found.append(
            _Limit(
                f"budget.dollars {budget.dollars:.12g}",
                spent.money.exact / Money.NANO / decimal_fraction(budget.dollars),
                None if spent.priced else Reason.PRICE_UNKNOWN,
            )
        )
    if budget.carbon_kilograms is not None:
        found.append(
            _Limit(
                f"budget.carbonKilograms {budget.carbon_kilograms:.12g}",
                spent.carbon.exact / _PER_KILOGRAM / decimal_fraction(budget.carbon_kilograms),
                None if spent.measured else Reason.ENERGY_UNKNOWN,
            )
        )
    return found


def _condition(
    level: BudgetLevel, limits: Sequence[_Limit], unknown: Reason | None, suspends: bool
) -> NewCondition:
    """Build the condition; its message names no growing amount, as each change writes the status."""
    kind, worst = ConditionType.WITHIN_BUDGET, _worst(limits)
    if level is BudgetLevel.EXCEEDED:
        then = (
            "raise or remove it to continue the run" if suspends else "the run continues (onExceeded: Warn)"
        )
        return NewCondition(kind, False, Reason.BUDGET_EXCEEDED, f"{worst.said} is spent; {then}")
    if level is BudgetLevel.NEARLY:
        reason, message = Reason.BUDGET_NEARLY_SPENT, f"80 % of {worst.said} is spent"
    else:
        reason, both = Reason.WITHIN_BUDGET, " and ".join(limit.said for limit in limits)
        message = f"less than 80 % of {both} is spent"
    if unknown is None:
        return NewCondition(kind, True, reason, message)
    reason = unknown if level is BudgetLevel.WITHIN else reason
    return NewCondition(kind, None, reason, f"{message}; {_UNKNOWN[unknown]}")


def _look_after(
    budget: Budget, account_at: Callable[[int], Account], at: int, level: BudgetLevel
) -> int | None:
    """Return the seconds until the next level, at most LONGEST_LOOK; None without a next level or a pod."""
    if level is BudgetLevel.EXCEEDED:
        return None
    if account_at(at + LONGEST_LOOK).cost.node_seconds == account_at(at).cost.node_seconds:
        return None

    def share(after: int) -> Fraction:
        return _worst(_limits(budget, SpentAmounts.from_account(account_at(at + after)))).share

    threshold = NEARLY if level is BudgetLevel.WITHIN else Fraction(1)
    if share(LONGEST_LOOK) < threshold:
        return LONGEST_LOOK
    return _first(share, threshold, LONGEST_LOOK)


def _first(share: Callable[[int], Fraction], threshold: Fraction, last: int) -> int:
    """Return the first second after 0 and up to `last` in which the share reaches the threshold.

    The share reaches it by `last`. An account is dear, and mostly grows along a line: try the second in which
    that line would reach it first, and the second before; then halve the rest.
    """
    low, high = 0, last
    while high - low > 1:
        slope = (share(high) - share(low)) / (high - low)
        steps = ceil((threshold - share(low)) / slope)
        for tried in (low + steps, low + steps - 1, (low + high) // 2):
            if not low < tried < high:
                continue
            if share(tried) < threshold:
                low = tried
            else:
                high = tried
    return high
