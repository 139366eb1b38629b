"""What of a run's budget is spent, what that asks for, and when to look again; pure.

A budget is nearly spent from 80 % on. What the pods that there are will have cost is known beforehand, with
changes of prices that are in the book by then: so the second in which a share is reached is computed, and
nobody need look all the time. Pods that come and entries that are written are news, and it is computed anew.

What nobody knows is not spent, and is never taken for nothing: the condition is Unknown then, unless what is
known is too much already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Final

from footplate_contracts.names import ConditionType, Reason
from footplate_contracts.v1alpha1.budget import Budget, OnExceeded
from footplate_contracts.v1alpha1.status import Condition
from footplate_ledger.account import Account
from footplate_ledger.energy import Method
from footplate_ledger.records import exact
from footplate_ledger.units import Money, Seconds
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.events import Event

NEARLY: Final = Fraction(4, 5)
LONGEST_LOOK: Final = 300  # seconds; a run is looked at anyway about as often
_PER_KILOGRAM: Final = 1000  # grams, which is what the ledger counts
_UNKNOWN: Final = {
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
    be otherwise without news.
    """

    level: Level
    condition: NewCondition
    note: str  # of the level, with amounts
    once: str  # the same for the same level of the same budget
    exceeded: str = ""
    look_after: int | None = None


@dataclass(frozen=True)
class _Limit:
    """One amount of a budget, and what is spent of it."""

    said: str
    share: Fraction
    shown: str  # what is spent
    unknown: Reason | None  # something more may be


def spending(budget: Budget, account_at: Callable[[int], Account], at: int) -> Spending:
    """What `budget` means for a run.

    Args:
        account_at: what the run's pods will have cost by a second, where they go on.
        at: the second of now.
    """
    limits = _limits(budget, account_at(at))
    worst = max(limits, key=lambda limit: limit.share)
    level = _level(worst.share)
    # A pod that has just been bound has cost nothing yet.
    unknown = next((limit.unknown for limit in _limits(budget, account_at(at + 1)) if limit.unknown), None)
    suspends = level is Level.EXCEEDED and budget.on_exceeded is OnExceeded.SUSPEND
    return Spending(
        level=level,
        condition=_condition(level, limits, worst, unknown, suspends),
        note=f"{worst.shown} are spent, {float(100 * worst.share):.0f} % of {worst.said}",
        once=f"{level.name} {worst.said}",
        exceeded=f"{worst.said} is spent" if suspends else "",
        look_after=None if level is Level.EXCEEDED else _look_after(budget, account_at, at, level),
    )


def event(before: Condition | None, now: Spending) -> Event | None:
    """The Event for a level that is reached; None where the condition `before` says it already."""
    if now.level is Level.WITHIN or (before is not None and before.reason == now.condition.reason):
        return None
    return Event(now.condition.reason, now.note, warning=True, once=now.once)


def _level(share: Fraction) -> Level:
    if share >= 1:
        return Level.EXCEEDED
    return Level.NEARLY if share >= NEARLY else Level.WITHIN


def _limits(budget: Budget, account: Account) -> Sequence[_Limit]:
    """Those that there are; one at least, as the API server sees to it."""
    return list(_each_limit(budget, account))


def _each_limit(budget: Budget, account: Account) -> Iterator[_Limit]:
    if budget.dollars is not None:
        money = account.cost.money
        yield _Limit(
            f"budget.dollars {budget.dollars:.12g}",
            money.exact / Money.NANO / exact(budget.dollars),
            f"{money.shown()} dollars",
            Reason.PRICE_UNKNOWN if account.cost.unpriced.exact else None,
        )
    if budget.carbon_kilograms is not None:
        carbon = account.emitted
        yield _Limit(
            f"budget.carbonKilograms {budget.carbon_kilograms:.12g}",
            carbon.exact / _PER_KILOGRAM / exact(budget.carbon_kilograms),
            f"{carbon.shown()} kg",
            None if _energy_known(account) else Reason.ENERGY_UNKNOWN,
        )


def _energy_known(account: Account) -> bool:
    if account.consumption.seconds.get(Method.UNKNOWN, Seconds()).exact:
        return False
    return account.energy_known or not account.cost.node_seconds.exact


def _condition(
    level: Level, limits: Sequence[_Limit], worst: _Limit, unknown: Reason | None, suspends: bool
) -> NewCondition:
    """Its message names no amount that grows: status.cost has them, and the status is written for each."""
    kind = ConditionType.WITHIN_BUDGET
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
    """Seconds until the next level is reached, at most LONGEST_LOOK; None while no pod holds a node."""
    if account_at(at + LONGEST_LOOK).cost.node_seconds == account_at(at).cost.node_seconds:
        return None

    def share(after: int) -> Fraction:
        return max(limit.share for limit in _limits(budget, account_at(at + after)))

    threshold = NEARLY if level is Level.WITHIN else Fraction(1)
    return 1 + bisect_left(range(1, LONGEST_LOOK), threshold, key=share)
