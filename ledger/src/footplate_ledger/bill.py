"""Bill of usage: lines for each pod, and for idle time; pure.

The sum over pods and idle time is the cost of the nodes, to the last digit, for any window: every line is a
part of a node's time at one price, and shares are exact. Time without a price costs an unknown amount: it is
counted beside, in node-seconds, and never as nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from footplate_ledger.intervals import Interval
from footplate_ledger.node_shares import split_node_time_by_pods
from footplate_ledger.prices import FOREVER, PriceBook
from footplate_ledger.units import HourlyRate, Money, Seconds
from footplate_ledger.usage import NodeLifetime, PodAllocation

IDLE: Final = ""  # the uid of nobody's pod
NOTHING: Final = Money()
NO_TIME: Final = Seconds()
ALWAYS: Final = Interval(-FOREVER, FOREVER)


@dataclass(frozen=True, slots=True)
class BillLine:
    """Part of a node's time at one price, which one pod has, or is idle."""

    pod: str  # uid; IDLE
    node: str
    span: Interval
    share: Fraction
    rate: HourlyRate | None
    estimated: bool = False

    @property
    def node_seconds(self) -> Seconds:
        """Seconds of the whole node."""
        return self.span.seconds * self.share

    @property
    def cost(self) -> Money | None:
        """Cost of the line; None without a price."""
        return None if self.rate is None else self.rate * self.node_seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """Sum of lines: known costs, and node-seconds without a price."""

    money: Money = NOTHING
    node_seconds: Seconds = NO_TIME
    unpriced: Seconds = NO_TIME
    estimated: Seconds = NO_TIME

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.money + other.money,
            self.node_seconds + other.node_seconds,
            self.unpriced + other.unpriced,
            self.estimated + other.estimated,
        )

    @classmethod
    def of(cls, line: BillLine) -> Cost:
        """Return the cost of one line."""
        cost, seconds = line.cost, line.node_seconds
        return cls(
            NOTHING if cost is None else cost,
            seconds,
            seconds if cost is None else NO_TIME,
            seconds if line.estimated else NO_TIME,
        )


def bill_lines(
    nodes: Iterable[NodeLifetime],
    pods: Iterable[PodAllocation],
    book: PriceBook,
    now: int,
    window: Interval = ALWAYS,
) -> Iterator[BillLine]:
    """Yield all lines within `window`, node by node and in the order of time."""
    on: dict[str, list[PodAllocation]] = defaultdict(list)
    for pod in pods:
        on[pod.node].append(pod)
    for node in nodes:
        yield from node_lines(node, on.get(node.uid, ()), book, now, window)


def node_lines(
    node: NodeLifetime, pods: Iterable[PodAllocation], book: PriceBook, now: int, window: Interval = ALWAYS
) -> Iterator[BillLine]:
    """Yield the lines of one node and its pods."""
    known = {pod.uid: pod for pod in pods}
    for part in split_node_time_by_pods(node, known.values(), now):
        for span, rate in book.split_by_rate(node.goods, part.span.within(window)):
            for uid, share in part.shares.items():
                yield BillLine(uid, node.uid, span, share, rate, known[uid].end.estimated)
            if part.idle:
                yield BillLine(IDLE, node.uid, span, part.idle, rate, node.end.estimated)
