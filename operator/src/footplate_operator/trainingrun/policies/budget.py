"""What of a run's budget is spent, what that asks for, and when to look again; pure.

A budget is nearly spent from 80 % on. What the pods that there are will have cost is known beforehand, with
changes of prices that are in the book by then: so the second in which a share is reached is computed, and
nobody need look all the time. Pods that come and entries that are written are news, and it is computed anew.

What nobody knows is not spent, and is never taken for nothing: the condition is Unknown then, unless what is
known is too much already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from fractions import Fraction
from math import ceil
from typing import Final

from footplate_contracts.names import ConditionType, Reason
from footplate_contracts.v1alpha1.budget import Budget, OnExceeded
from footplate_contracts.v1alpha1.status import CostStatus
from footplate_ledger.account import Account
from footplate_ledger.energy import Method
from footplate_ledger.records import exact
from footplate_ledger.units import Carbon, Money, Seconds
from footplate_operator.runtime.conditions import NewCondition

NEARLY: Final = Fraction(4, 5)
LONGEST_LOOK: Final = 300  # seconds; a run is looked at anyway about as often
_PER_KILOGRAM: Final = 1000  # grams, which is what the ledger counts
_UNKNOWN: Final = {
    Reason.SPENDING_UNKNOWN: "what it has spent since that was counted is unknown, as its UsageRecords,"
    " PriceEntries or CarbonIntensities cannot be read: the operator's log says why",
    Reason.PRICE_UNKNOWN: "some of its nodes have no price, and count for nothing here: state price in their"
    " ComputeProfile, or write a PriceEntry",
    Reason.ENERGY_UNKNOWN: "what some of its nodes consume is unknown, and counts for nothing here: state"
    " gpu.tdpWatts or energy.nodeWatts in their ComputeProfile",
}


class Level(IntEnum):
    """How much is spent."""

    WITHIN = 0
    NEARLY = 1
    EXCEEDED = 2


@dataclass(frozen=True)
class Spending:
    """Of one run, by one account.

    `exceeded` says why it is to be suspended, empty where it is not; `look_after` are seconds until it may
    be otherwise without news; `nearly` are amounts of which 80 % are spent.
    """

    level: Level
    condition: NewCondition
    exceeded: str = ""
    look_after: int | None = None
    nearly: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spent:
    """What a run has spent by some second, and whether that is all of it."""

    money: Money = field(default_factory=Money)
    priced: bool = True
    carbon: Carbon = field(default_factory=Carbon)
    measured: bool = True

    @classmethod
    def of(cls, account: Account) -> Spent:
        """By an account."""
        doubtful = account.consumption.seconds.get(Method.UNKNOWN, Seconds()).exact
        known = account.energy_known or not account.cost.node_seconds.exact
        return cls(
            account.cost.money, not account.cost.unpriced.exact, account.emitted, known and not doubtful
        )

    @classmethod
    def told(cls, cost: CostStatus) -> Spent:
        """By the status, while there is no account."""
        money, carbon = cost.dollars or 0.0, cost.carbon_kilograms or 0.0
        return cls(
            Money(exact(money) * Money.NANO),
            not cost.unpriced_node_seconds,
            Carbon(exact(carbon) * _PER_KILOGRAM),
            not cost.node_seconds if cost.carbon_kilograms is None else Method.UNKNOWN not in cost.method,
        )


@dataclass(frozen=True)
class _Limit:
    """One amount of a budget, and what is spent of it."""

    said: str
    share: Fraction
    unknown: Reason | None  # something more may be


def remembered(budget: Budget, cost: CostStatus, known: bool = True) -> Spending:
    """What `budget` means for a run of whose usage nothing is known just now, but what its status says.

    `known`: nothing was used beside that.
    """
    limits = _limits(budget, Spent.told(cost))
    if not known:
        limits = [replace(limit, unknown=Reason.SPENDING_UNKNOWN) for limit in limits]
    return _spending(budget, limits, limits, None)


def spending(budget: Budget, account_at: Callable[[int], Account], at: int) -> Spending:
    """What `budget` means for a run.

    Args:
        account_at: what the run's pods will have cost by a second, where they go on.
        at: the second of now.
    """
    now = _limits(budget, Spent.of(account_at(at)))
    # A pod that was just bound has cost nothing yet: whether it has a price shows by and by.
    soon = _limits(budget, Spent.of(account_at(at + LONGEST_LOOK)))
    return _spending(budget, now, soon, _look_after(budget, account_at, at, _level(_worst(now).share)))


def _spending(
    budget: Budget, now: Sequence[_Limit], soon: Sequence[_Limit], look_after: int | None
) -> Spending:
    worst = _worst(now)
    level = _level(worst.share)
    unknown = next((limit.unknown for limit in soon if limit.unknown), None)
    suspends = level is Level.EXCEEDED and budget.on_exceeded is OnExceeded.SUSPEND
    return Spending(
        level=level,
        condition=_condition(level, now, unknown, suspends),
        exceeded=f"{worst.said} is spent" if suspends else "",
        look_after=look_after,
        nearly=tuple(limit.said for limit in now if limit.share >= NEARLY),
    )


def still(budget: Budget, found: Spending, said: str) -> Spending:
    """`found`, of a run whose condition WithinBudget has said `said` until now.

    What becomes known later may be less: an end that was a few seconds earlier, energy that was measured. A
    run that is suspended for an amount stays so while 80 % of it are spent, or it would go on for seconds,
    and be suspended again.
    """
    if found.level is not Level.NEARLY or budget.on_exceeded is not OnExceeded.SUSPEND:
        return found
    for limit in _limits(budget, Spent()):
        spent = _condition(Level.EXCEEDED, [limit], None, suspends=True)
        if limit.said in found.nearly and spent.message == said:
            exceeded = f"{limit.said} is spent"
            return replace(found, level=Level.EXCEEDED, condition=spent, exceeded=exceeded, look_after=None)
    return found


def _level(share: Fraction) -> Level:
    if share >= 1:
        return Level.EXCEEDED
    return Level.NEARLY if share >= NEARLY else Level.WITHIN


def _worst(limits: Sequence[_Limit]) -> _Limit:
    return max(limits, key=lambda limit: limit.share)


def _limits(budget: Budget, spent: Spent) -> Sequence[_Limit]:
    """Those that there are; one at least, as the API server sees to it."""
    found = []
    if budget.dollars is not None:
        found.append(
            _Limit(
                f"budget.dollars {budget.dollars:.12g}",
                spent.money.exact / Money.NANO / exact(budget.dollars),
                None if spent.priced else Reason.PRICE_UNKNOWN,
            )
        )
    if budget.carbon_kilograms is not None:
        found.append(
            _Limit(
                f"budget.carbonKilograms {budget.carbon_kilograms:.12g}",
                spent.carbon.exact / _PER_KILOGRAM / exact(budget.carbon_kilograms),
                None if spent.measured else Reason.ENERGY_UNKNOWN,
            )
        )
    return found


def _condition(
    level: Level, limits: Sequence[_Limit], unknown: Reason | None, suspends: bool
) -> NewCondition:
    """Its message names no amount that grows: status.cost has them, and the status is written for each."""
    kind, worst = ConditionType.WITHIN_BUDGET, _worst(limits)
    if level is Level.EXCEEDED:
        then = (
            "raise it, or remove it, and the run goes on"
            if suspends
            else "the run goes on (onExceeded: Warn)"
        )
        return NewCondition(kind, False, Reason.BUDGET_EXCEEDED, f"{worst.said} is spent; {then}")
    if level is Level.NEARLY:
        reason, message = Reason.BUDGET_NEARLY_SPENT, f"80 % of {worst.said} is spent"
    else:
        reason, both = Reason.WITHIN_BUDGET, " and ".join(limit.said for limit in limits)
        message = f"less than 80 % of {both} is spent"
    if unknown is None:
        return NewCondition(kind, True, reason, message)
    reason = unknown if level is Level.WITHIN else reason
    return NewCondition(kind, None, reason, f"{message}; {_UNKNOWN[unknown]}")


def _look_after(budget: Budget, account_at: Callable[[int], Account], at: int, level: Level) -> int | None:
    """Seconds until the next level is reached, at most LONGEST_LOOK; None where none is, or no pod."""
    if level is Level.EXCEEDED:
        return None
    if account_at(at + LONGEST_LOOK).cost.node_seconds == account_at(at).cost.node_seconds:
        return None

    def share(after: int) -> Fraction:
        return _worst(_limits(budget, Spent.of(account_at(at + after)))).share

    threshold = NEARLY if level is Level.WITHIN else Fraction(1)
    if share(LONGEST_LOOK) < threshold:
        return LONGEST_LOOK
    return _first(share, threshold, LONGEST_LOOK)


def _first(share: Callable[[int], Fraction], threshold: Fraction, last: int) -> int:
    """The first second after 0 and up to `last`, by which it is reached, in which it is.

    An account is dear, and mostly grows along a line: where that would reach it is tried first, and the
    second before; what is left after that is halved.
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
