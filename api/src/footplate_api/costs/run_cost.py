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

from footplate_api.checkpoints.repository import KEPT
from footplate_api.costs.schemas import (
    AttemptCost,
    CostAdjustment,
    DeviceSeconds,
    MonthCost,
    PodCost,
    Ratio,
    RunCost,
    UsageCost,
)
from footplate_api.serialization import tolerant_json
from footplate_contracts.names import Role
from footplate_ledger.account import Account
from footplate_ledger.adjustments import ClosedMonthPrices, split_by_month, sum_adjustments
from footplate_ledger.conversion import format_time
from footplate_ledger.cost_sums import CostSum, Found, Key, PricedUsage
from footplate_ledger.device_activity import DeviceActivity
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBook
from footplate_ledger.summary import DOLLARS, KILOGRAMS, KILOWATT_HOURS, build_cost_status
from footplate_ledger.units import Amount, Energy, Money, rounded
from footplate_ledger.usage import RUNNING, PodAllocation

_MILLION: Final = 10**6
_OF_TIME: Final = frozenset({"device_seconds", "until"})  # what a summary says that is not said of parts


class RunTimeline:
    """Time in which a run used nodes, split into months and attempts.

    An attempt lasts until the next one begins: most pods outlive one. Usage before the first attempt belongs
    to it; if no attempt is known, a pod belongs to the one in which it began.
    """

    def __init__(self, spans: Mapping[str, Interval], attempts: Sequence[tuple[int, int]], now: int) -> None:
        """Split `spans`, the times by node in which pods of the run may be on it.

        `attempts` are numbers, and the second in which each begins, in order.
        """
        self.spans = spans
        self.now = now
        self._attempts = attempts
        self._starts = [start for _, start in attempts]
        self.edges = self._edges() if spans else []
        self._parts = [Interval(*edge) for edge in pairwise(self.edges)]

    @property
    def bounds(self) -> list[int]:
        """First and last edge of the whole time."""
        return [self.edges[0], self.edges[-1]] if self.edges else []

    def _edges(self) -> list[int]:
        starts, ends = ([getattr(span, edge) for span in self.spans.values()] for edge in ("start", "end"))
        whole = Interval(min(starts), max(ends))
        begin = (start for start in self._starts if whole.start < start < whole.end)
        return sorted({whole.start, *begin, *(month.end for month in split_by_month(whole))})

    def months(self) -> list[tuple[Interval, range]]:
        """Return each month, and the indexes of its parts."""
        return [
            (month, range(bisect_left(self.edges, month.start), bisect_left(self.edges, month.end)))
            for month in (split_by_month(Interval(*self.bounds)) if self.edges else ())
        ]

    def key(self, pod: PodAllocation) -> Key:
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
class CostedRun:
    """A run and what it produced."""

    namespace: str
    name: str
    uid: str
    tokens: int
    checkpoints: int
    attempts: Sequence[tuple[int, int]]  # number, and the second in which it began, in order
    cost: Mapping[str, Any]  # status.cost, as the operator told it last


def build_run_cost(
    made: CostedRun, used: RunTimeline, found: Found, book: PriceBook, pods: list[PodCost] | None
) -> RunCost:
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
        counted_until=format_time(used.now),
        total=UsageCost(**_amounts(total)),
        coordinator=UsageCost(**_amounts(coordinator)),
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


def build_pod_costs(pods: Iterable[PodAllocation], found: Found, book: PriceBook) -> list[PodCost]:
    """Build the cost of each pod; `found` has the sum of all its time by its uid, which is removed."""
    return [_pod(pod, found.pop((pod.uid, 0), CostSum()).account(book)) for pod in pods]


def _accounts(used: RunTimeline, found: Found, book: PriceBook) -> Iterator[tuple[tuple[int, bool], Account]]:
    """Yield the accounts by (number of the attempt, whether of coordinators); their sums are removed."""
    places: dict[tuple[int, bool], list[tuple[Key, int]]] = defaultdict(list)
    for key, at in found:
        places[used.attempt(key, at), _said(key)[1]].append((key, at))
    for whose, those in places.items():
        whole = CostSum()
        for place in those:
            whole.add(found.pop(place))
        yield whose, whole.account(book)


def _sum(accounts: Iterable[Account]) -> Account:
    return sum(accounts, Account())


def _bill(used: RunTimeline, found: Found, book: PriceBook) -> tuple[list[MonthCost], list[CostAdjustment]]:
    """Return the run's months, and the later changes to closed months."""
    by_place: dict[int, list[CostSum]] = defaultdict(list)
    for (_, place), cost_sum in found.items():
        by_place[place].append(cost_sum)
    billed: list[MonthCost] = []
    changed: list[tuple[int, Interval, Decimal]] = []
    for month, places in used.months():
        closing = ClosedMonthPrices(book, month, used.now)
        cost_sums = [cost_sum for place in places for cost_sum in by_place[place]]
        priced = PricedUsage()
        for cost_sum in cost_sums:
            priced.add(cost_sum.paid, closing, free=False)
            priced.add(cost_sum.free, closing, free=True)
        dollars = float(priced.money.to_decimal(Money.NANO, DOLLARS)) if priced.known else None
        billed.append(MonthCost(**_span(month), dollars=dollars))
        for at, dearer in sum_adjustments(cost_sums, closing).items():
            if more := dearer.to_decimal(Money.NANO, DOLLARS):
                changed.append((at, month, more))
    return billed, [
        CostAdjustment(**_span(month), dollars=float(more), at=format_time(at))
        for at, month, more in sorted(changed)
    ]


def _span(span: Interval) -> dict[str, str]:
    return {"since": format_time(span.start), "until": format_time(span.end)}


def _amounts(account: Account) -> dict[str, Any]:
    said = build_cost_status(account, {}, 0).model_dump(exclude=set(_OF_TIME))
    return {**said, "held_device_seconds": float(rounded(account.device_seconds.exact, 3))}


def _pod(pod: PodAllocation, account: Account) -> PodCost:
    return PodCost(
        uid=pod.uid,
        name=pod.name,
        role=pod.role,
        attempt=pod.attempt,
        node=pod.node,
        start=format_time(pod.start),
        end=None if pod.end.known == RUNNING else format_time(pod.end.until),
        estimated=pod.end.estimated,
        **_amounts(account),
    )


def _buckets(cost: Mapping[str, Any]) -> DeviceSeconds | None:
    told = tolerant_json.mapping(cost, "deviceSeconds")
    if not told:
        return None
    return DeviceSeconds(
        **{bucket.value: tolerant_json.number(told, bucket.value) or 0.0 for bucket in DeviceActivity}
    )


def _ratio(total: Account, units: Fraction) -> Ratio | None:
    """Return the cost per unit; None without units."""
    if not units:
        return None
    priced = total.cost.node_seconds > total.cost.unpriced
    known = total.is_energy_known

    def each(amount: Amount, base: int, digits: int) -> float:
        return float(rounded(amount.exact / base / units, digits))

    return Ratio(
        dollars=each(total.cost.money, Money.NANO, DOLLARS) if priced else None,
        kilowatt_hours=each(total.consumption.energy, Energy.PER_KILOWATT_HOUR, KILOWATT_HOURS)
        if known
        else None,
        carbon_kilograms=each(total.emitted, 1000, KILOGRAMS) if known else None,
    )
