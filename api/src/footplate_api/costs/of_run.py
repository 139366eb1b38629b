"""What one run has cost, by attempt and by pod: the numbers of its `status.cost`, from what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from footplate_api import lenient
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
from footplate_ledger.account import Account
from footplate_ledger.adjustments import Closing, adjustments, months
from footplate_ledger.buckets import Bucket
from footplate_ledger.prices import Book
from footplate_ledger.records import written
from footplate_ledger.summary import DOLLARS, KILOGRAMS, KILOWATT_HOURS, summary
from footplate_ledger.tally import Key, Priced, Tally
from footplate_ledger.time import Span
from footplate_ledger.units import Amount, Energy, Money, rounded
from footplate_ledger.usage import RUNNING, PodUsage

_MILLION: Final = 10**6
_OF_TIME: Final = frozenset({"device_seconds", "until"})  # what a summary says that is not said of parts


Found = Mapping[tuple[Key, int], Tally]


class Used:
    """The pods of a run, and where each has a part: in months, and in the time of each attempt.

    An attempt has the seconds until the next one begins: most pods outlive one. What there was before the
    first one is its own; where none is known, a pod is of the one in which it began.
    """

    def __init__(self, rows: Iterable[Any], attempts: Sequence[tuple[int, int]], now: int) -> None:
        """`attempts` are numbers, and the second in which each begins, in order."""
        self.rows = {row.uid: row for row in rows}
        self.pods = {uid: record.usage_of(row) for uid, row in self.rows.items()}
        self.now = now
        self.spans: dict[str, Span] = {}  # of each node, while pods of the run may be on it
        for pod in self.pods.values():
            if span := pod.span(now):
                known = self.spans.get(pod.node, span)
                self.spans[pod.node] = Span(min(known.start, span.start), max(known.end, span.end))
        self._attempts = attempts
        self.edges = self._edges() if self.spans else []
        self._parts = [Span(*edge) for edge in pairwise(self.edges)]
        self._numbers = [self._number(part.start) for part in self._parts]

    def _edges(self) -> list[int]:
        starts, ends = ([getattr(span, edge) for span in self.spans.values()] for edge in ("start", "end"))
        whole = Span(min(starts), max(ends))
        begin = (start for _, start in self._attempts if whole.start < start < whole.end)
        return sorted({whole.start, *begin, *(month.end for month in months(whole))})

    def months(self) -> list[tuple[Span, list[int]]]:
        """Each, and the places of its parts."""
        whole = Span(self.edges[0], self.edges[-1]) if self.edges else Span(0, 0)
        return [
            (month, [at for at, part in enumerate(self._parts) if part.within(month)])
            for month in months(whole)
        ]

    def attempt(self, uid: str, place: int) -> int:
        """Whose time a part of a pod's is."""
        number = self._numbers[place]
        return self.pods[uid].attempt if number is None else number

    def _number(self, moment: int) -> int | None:
        if not self._attempts:
            return None
        begun = [number for number, start in self._attempts if start <= moment]
        return begun[-1] if begun else self._attempts[0][0]


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


def shown(made: Made, used: Used, found: Found, book: Book, pods: bool) -> RunCost:
    """The answer; exact sums, divided and rounded at its very end. `found` has a tally by pod and part."""
    attempts: dict[int, list[Account]] = defaultdict(list)
    accounts: dict[str, Account] = defaultdict(Account)
    for (uid, number), account in _accounts(used, found, book).items():
        attempts[number].append(account)
        accounts[uid] = accounts[uid] + account
    total = _sum(accounts.values())
    coordinators = (account for uid, account in accounts.items() if used.pods[uid].role is Role.COORDINATOR)
    billed, changed = _bill(used, found, book)
    return RunCost(
        namespace=made.namespace,
        name=made.name,
        uid=made.uid,
        counted_until=written(used.now),
        total=Amounts(**_amounts(total)),
        coordinator=Amounts(**_amounts(_sum(coordinators))),
        device_seconds=_buckets(made.cost),
        attempts=[
            AttemptCost(attempt=number, **_amounts(_sum(those))) for number, those in sorted(attempts.items())
        ],
        pods=[_pod(used.rows[uid], used.pods[uid], accounts[uid]) for uid in used.pods] if pods else None,
        months=billed,
        adjustments=changed,
        tokens=made.tokens,
        per_million_tokens=_ratio(total, Fraction(made.tokens, _MILLION)),
        checkpoints=made.checkpoints,
        per_checkpoint=_ratio(total, Fraction(made.checkpoints)),
    )


def _accounts(used: Used, found: Found, book: Book) -> dict[tuple[str, int], Account]:
    """By pod and number of the attempt."""
    whole: dict[tuple[str, int], Tally] = defaultdict(Tally)
    for (key, place), tally in found.items():
        uid = str(key)
        whole[uid, used.attempt(uid, place)].add(tally)
    return {key: tally.account(book) for key, tally in whole.items()}


def _sum(accounts: Iterable[Account]) -> Account:
    return sum(accounts, Account())


def _bill(used: Used, found: Found, book: Book) -> tuple[list[MonthCost], list[CostAdjustment]]:
    """The months of the run, and what was written later about those that were closed."""
    by_place: dict[int, list[Tally]] = defaultdict(list)
    for (_, place), tally in found.items():
        by_place[place].append(tally)
    billed: list[MonthCost] = []
    changed: list[tuple[int, Span, Decimal]] = []
    for month, places in used.months():
        closing = Closing(book, month, used.now)
        tallies = [tally for place in places for tally in by_place[place]]
        priced = Priced()
        for tally in tallies:
            priced.add(tally.paid, closing, free=False)
            priced.add(tally.free, closing, free=True)
        dollars = float(priced.money.shown(Money.NANO, DOLLARS)) if priced.known else None
        billed.append(MonthCost(**_span(month), dollars=dollars))
        for at, dearer in adjustments(tallies, closing).items():
            if more := dearer.shown(Money.NANO, DOLLARS):
                changed.append((at, month, more))
    return billed, [
        CostAdjustment(**_span(month), dollars=float(more), at=written(at))
        for at, month, more in sorted(changed)
    ]


def _span(span: Span) -> dict[str, str]:
    return {"since": written(span.start), "until": written(span.end)}


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
