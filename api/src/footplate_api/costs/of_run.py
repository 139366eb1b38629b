"""What one run has cost, by attempt and by pod: the numbers of its `status.cost`, from what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from footplate_api import lenient
from footplate_api.costs import reckoning
from footplate_api.costs.reckoning import Keys
from footplate_api.costs.schemas import (
    Amounts,
    AttemptCost,
    CostAdjustment,
    DeviceSeconds,
    MonthCost,
    PodCost,
    Ratio,
    RunCost,
)
from footplate_api.usage import record
from footplate_contracts.names import Role
from footplate_ledger.account import Account, Tariff
from footplate_ledger.adjustments import Closing, adjustments, months
from footplate_ledger.bill import Cost
from footplate_ledger.buckets import Bucket
from footplate_ledger.exact import Sum
from footplate_ledger.records import written
from footplate_ledger.summary import DOLLARS, KILOGRAMS, KILOWATT_HOURS, summary
from footplate_ledger.tally import Tallies
from footplate_ledger.time import Span
from footplate_ledger.units import Amount, Energy, Money, rounded
from footplate_ledger.usage import RUNNING, NodeUsage, PodUsage

_MILLION: Final = 10**6
_OF_TIME: Final = frozenset({"device_seconds", "until"})  # what a summary says that is not said of parts


@dataclass(frozen=True)
class Used:
    """What there is to reckon from: rows of the run's pods, of all pods on their nodes, and these nodes."""

    own: Sequence[Any]
    beside: Sequence[Any]
    nodes: Mapping[str, NodeUsage]


@dataclass(frozen=True)
class Made:
    """The run, and what it made."""

    namespace: str
    name: str
    uid: str
    tokens: int
    checkpoints: int
    attempts: Sequence[tuple[int, int]]  # number, and the second in which it began, in order
    cost: Mapping[str, Any]  # status.cost, as the operator told it last


def span_of(rows: Iterable[Any], now: int) -> Span | None:
    """From the first pod to the last second of any; None where there is none."""
    spans = [span for row in rows if (span := record.usage_of(row).span(now))]
    if not spans:
        return None
    return Span(min(span.start for span in spans), max(span.end for span in spans))


def shown(made: Made, used: Used, tariff: Tariff, now: int, pods: bool) -> RunCost:
    """The answer; exact sums, divided and rounded at its very end."""
    whole = span_of(used.own, now)
    rows = {row.uid: row for row in used.own}
    own = {uid: record.usage_of(row) for uid, row in rows.items()}
    found = {} if whole is None else _accounts(used, tariff, now, whole, own, made.attempts)
    total = _sum(found.values())
    attempts: dict[int, list[Account]] = defaultdict(list)
    accounts: dict[str, Account] = defaultdict(Account)
    for (uid, number), account in found.items():
        attempts[number].append(account)
        accounts[uid] = accounts[uid] + account
    coordinators = (account for uid, account in accounts.items() if own[uid].role is Role.COORDINATOR)
    billed, changed = _bill(used, tariff, now, whole, own)
    return RunCost(
        namespace=made.namespace,
        name=made.name,
        uid=made.uid,
        counted_until=written(now),
        total=Amounts(**_amounts(total)),
        coordinator=Amounts(**_amounts(_sum(coordinators))),
        device_seconds=_buckets(made.cost),
        attempts=[
            AttemptCost(attempt=number, **_amounts(_sum(those))) for number, those in sorted(attempts.items())
        ],
        pods=[_pod(rows[uid], own[uid], accounts[uid]) for uid in own] if pods else None,
        months=billed,
        adjustments=changed,
        tokens=made.tokens,
        per_million_tokens=_ratio(total, Fraction(made.tokens, _MILLION)),
        checkpoints=made.checkpoints,
        per_checkpoint=_ratio(total, Fraction(made.checkpoints)),
    )


def _tallies(
    used: Used, tariff: Tariff, now: int, edges: Sequence[int], own: Mapping[str, PodUsage]
) -> Tallies:
    found = Tallies(tariff, now, edges)
    keys = Keys(lambda pod: pod.uid if pod.uid in own else None)
    reckoning.add(found, used.beside, used.nodes, keys)
    return found


def _accounts(
    used: Used,
    tariff: Tariff,
    now: int,
    whole: Span,
    own: Mapping[str, PodUsage],
    attempts: Sequence[tuple[int, int]],
) -> dict[tuple[str, int], Account]:
    """By pod and number of the attempt: an attempt has the seconds until the next one begins.

    Most pods outlive an attempt. What there was before the first one is its own; where none is known, a pod
    is of the one in which it began.
    """
    later = [(number, start) for number, start in attempts[1:] if whole.start < start < whole.end]
    edges = [whole.start, *(start for _, start in later), whole.end]
    first = max((number for number, start in attempts if start <= whole.start), default=None)
    if first is None and attempts:
        first = attempts[0][0]
    numbers = [first, *(number for number, _ in later)]
    found: dict[tuple[str, int], Account] = {}
    for (key, place), tally in _tallies(used, tariff, now, edges, own).found.items():
        uid, number = str(key), numbers[place]
        found[uid, own[uid].attempt if number is None else number] = tally.account(tariff.book)
    return found


def _sum(accounts: Iterable[Account]) -> Account:
    return sum(accounts, Account())


def _bill(
    used: Used, tariff: Tariff, now: int, whole: Span | None, own: Mapping[str, PodUsage]
) -> tuple[list[MonthCost], list[CostAdjustment]]:
    """The months of the run, and what was written later about those that were closed."""
    if whole is None:
        return [], []

    billed: list[MonthCost] = []
    changed: list[tuple[int, Span, Sum]] = []
    for month in months(whole):
        closing = Closing(tariff.book, month, now)
        found = list(_tallies(used, tariff, now, [month.start, month.end], own).found.values())
        cost = sum((tally.priced(closing).cost() for tally in found), Cost())
        billed.append(MonthCost(**_span(month), dollars=_dollars(cost.money)))
        changed += [(at, month, dearer) for at, dearer in adjustments(found, closing).items()]
    shown = ((at, month, dearer.shown(Money.NANO, DOLLARS)) for at, month, dearer in changed)
    return billed, [
        CostAdjustment(**_span(month), dollars=float(dollars), at=written(at))
        for at, month, dollars in sorted(shown)
        if dollars
    ]


def _span(span: Span) -> dict[str, str]:
    return {"since": written(span.start), "until": written(span.end)}


def _dollars(money: Money) -> float:
    return float(money.shown(DOLLARS))


def _amounts(account: Account) -> dict[str, Any]:
    said = summary(account, {}, 0).model_dump(exclude=set(_OF_TIME))
    return {**said, "held_device_seconds": float(rounded(account.device_seconds.exact, 3))}


def _pod(row: Any, pod: PodUsage, account: Account) -> PodCost:
    return PodCost(
        uid=pod.uid,
        name=row.name,
        role=pod.role,
        attempt=pod.attempt,
        node=pod.node,
        start=written(pod.start),
        end=None if pod.end.known == RUNNING else written(pod.end.until),
        estimated=pod.end.estimated,
        **_amounts(account),
    )


def _buckets(cost: Mapping[str, Any]) -> DeviceSeconds | None:
    told = lenient.mapping(cost, "deviceSeconds")
    if not told:
        return None
    return DeviceSeconds(**{bucket.value: lenient.number(told, bucket.value) or 0.0 for bucket in Bucket})


def _ratio(total: Account, units: Fraction) -> Ratio | None:
    """Of one unit; None where there is none."""
    if not units:
        return None
    priced = total.cost.node_seconds > total.cost.unpriced
    known = total.energy_known

    def each(amount: Amount, base: int, digits: int) -> float:
        return float(rounded(amount.exact / base / units, digits))

    return Ratio(
        dollars=each(total.cost.money, Money.NANO, DOLLARS) if priced else None,
        kilowatt_hours=each(total.consumption.energy, Energy.PER_KILOWATT_HOUR, KILOWATT_HOURS)
        if known
        else None,
        carbon_kilograms=each(total.emitted, 1000, KILOGRAMS) if known else None,
    )
