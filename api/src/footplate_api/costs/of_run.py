"""Costs of one run, by attempt and by pod: the numbers of its `status.cost`, from the stored usage."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

from footplate_api import lenient
from footplate_api.checkpoints.repository import KEPT
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
from footplate_api.usage.record import ToldPod
from footplate_contracts.names import Role
from footplate_ledger.account import Account
from footplate_ledger.adjustments import Closing, adjustments, months
from footplate_ledger.buckets import Bucket
from footplate_ledger.prices import Book
from footplate_ledger.records import written
from footplate_ledger.summary import DOLLARS, KILOGRAMS, KILOWATT_HOURS, summary
from footplate_ledger.tally import Found, Key, Priced, Tally
from footplate_ledger.time import Span
from footplate_ledger.units import Amount, Energy, Money, rounded
from footplate_ledger.usage import RUNNING, PodUsage

_MILLION: Final = 10**6
_OF_TIME: Final = frozenset({"device_seconds", "until"})  # what a summary says that is not said of parts


class Used:
    """Time in which a run used nodes, split into months and attempts.

    An attempt lasts until the next one begins: most pods outlive one. Usage before the first attempt belongs
    to it; if no attempt is known, a pod belongs to the one in which it began.
    """

    def __init__(self, spans: Mapping[str, Span], attempts: Sequence[tuple[int, int]], now: int) -> None:
        """Split `spans`, the times by node in which pods of the run may be on it.

        `attempts` are numbers, and the second in which each begins, in order.
        """
        self.spans = spans
        self.now = now
        self._attempts = attempts
        self._starts = [start for _, start in attempts]
        self.edges = self._edges() if spans else []
        self._parts = [Span(*edge) for edge in pairwise(self.edges)]

    @property
    def ends(self) -> list[int]:
        """First and last edge of the whole time."""
        return [self.edges[0], self.edges[-1]] if self.edges else []

    def _edges(self) -> list[int]:
        starts, ends = ([getattr(span, edge) for span in self.spans.values()] for edge in ("start", "end"))
        whole = Span(min(starts), max(ends))
        begin = (start for start in self._starts if whole.start < start < whole.end)
        return sorted({whole.start, *begin, *(month.end for month in months(whole))})

    def months(self) -> list[tuple[Span, range]]:
        """Return each month, and the indexes of its parts."""
        return [
            (month, range(bisect_left(self.edges, month.start), bisect_left(self.edges, month.end)))
            for month in (months(Span(*self.ends)) if self.edges else ())
        ]

    def key(self, pod: PodUsage) -> Key:
        """Return the key under which a pod of the run is summed: (attempt, whether it is a coordinator).

        The attempt is 0 if the attempts are known, as these determine whose time each part is: so there are
        few keys.
        """
        return 0 if self._attempts else pod.attempt, pod.role is Role.COORDINATOR

    def attempt(self, key: Key, place: int) -> int:
        """Return the attempt whose time a part is, of what is summed under `key`."""
        if not self._attempts:
            return _said(key)[0]
        return self._attempts[max(0, bisect_right(self._starts, self._parts[place].start) - 1)][0]


def _said(key: Key) -> tuple[int, bool]:
    assert isinstance(key, tuple)
    attempt, coordinator = key
    return attempt, coordinator


@dataclass(frozen=True)
class Made:
    """A run and what it produced."""

    namespace: str
    name: str
    uid: str
    tokens: int
    checkpoints: int
    attempts: Sequence[tuple[int, int]]  # number, and the second in which it began, in order
    cost: Mapping[str, Any]  # status.cost, as the operator told it last


def shown(made: Made, used: Used, found: Found, book: Book, pods: list[PodCost] | None) -> RunCost:
    """Build the response; exact sums are divided and rounded at its very end.

    `found` has a sum by Used.key() and part of the time; each is removed once its account is built.
    """
    billed, changed = _bill(used, found, book)
    attempts: dict[int, Account] = defaultdict(Account)
    coordinator = Account()
    for (number, of_coordinator), account in _accounts(used, found, book):
        attempts[number] = attempts[number] + account
        if of_coordinator:
            coordinator = coordinator + account
    total = _sum(attempts.values())
    return RunCost(
        namespace=made.namespace,
        name=made.name,
        uid=made.uid,
        counted_until=written(used.now),
        total=Amounts(**_amounts(total)),
        coordinator=Amounts(**_amounts(coordinator)),
        device_seconds=_buckets(made.cost),
        attempts=[AttemptCost(attempt=number, **_amounts(attempts[number])) for number in sorted(attempts)],
        pods=pods,
        months=billed,
        adjustments=changed,
        tokens=made.tokens,
        per_million_tokens=_ratio(total, Fraction(made.tokens, _MILLION)),
        checkpoints=made.checkpoints,
        per_checkpoint=_ratio(total, Fraction(made.checkpoints)) if made.checkpoints < KEPT else None,
    )


def shown_pods(pods: Iterable[ToldPod], found: Found, book: Book) -> list[PodCost]:
    """Build the cost of each pod; `found` has the sum of all its time by its uid, which is removed."""
    return [_pod(pod, found.pop((pod.usage.uid, 0), Tally()).account(book)) for pod in pods]


def _accounts(used: Used, found: Found, book: Book) -> Iterator[tuple[tuple[int, bool], Account]]:
    """Yield the accounts by (number of the attempt, whether of coordinators); their sums are removed."""
    places: dict[tuple[int, bool], list[tuple[Key, int]]] = defaultdict(list)
    for key, at in found:
        places[used.attempt(key, at), _said(key)[1]].append((key, at))
    for whose, those in places.items():
        whole = Tally()
        for place in those:
            whole.add(found.pop(place))
        yield whose, whole.account(book)


def _sum(accounts: Iterable[Account]) -> Account:
    return sum(accounts, Account())


def _bill(used: Used, found: Found, book: Book) -> tuple[list[MonthCost], list[CostAdjustment]]:
    """Return the run's months, and the later changes to closed months."""
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


def _pod(told: ToldPod, account: Account) -> PodCost:
    pod = told.usage
    return PodCost(
        uid=pod.uid,
        name=told.name,
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
    """Return the cost per unit; None without units."""
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
