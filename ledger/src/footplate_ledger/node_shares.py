"""Shares of pods in a node, second by second; pure.

Pods on one node share its seconds by their devices; where the node has none, by the CPU that they request.
The rest is idle. A share is an exact fraction, and at any second shares and idle add up to one.

Devices are held by one pod at a time, but intervals of whole seconds, and a pod whose end was not observed,
may overlap: where pods hold more than there is, all of them share the whole.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from itertools import pairwise

from footplate_ledger.intervals import Interval
from footplate_ledger.usage import TOLD, EndTime, NodeLifetime, PodAllocation, Sku


@dataclass(frozen=True, slots=True)
class NodeShares:
    """Part of a node's time, with the pods' shares of it and the idle rest."""

    span: Interval
    shares: Mapping[str, Fraction]  # by the pod's uid, of those that were asked about
    idle: Fraction


@dataclass(slots=True)
class _Sums:
    """Totals of the pods on a node at once, updated as pods come and go, since there may be very many."""

    devices: int = 0
    cpu: Fraction = Fraction(0)
    pods: int = 0

    def add(self, pod: PodAllocation, times: int) -> None:
        self.devices += times * pod.devices
        self.cpu += times * pod.cpu
        self.pods += times


def split_node_time_by_pods(
    node: NodeLifetime, pods: Iterable[PodAllocation], now: int, wanted: Collection[str] | None = None
) -> Iterator[NodeShares]:
    """Yield parts of the time of `node` until `now` with the same pods; in order, without gaps.

    Yields nothing for a node that ends before it begins, or begins later than now: clocks differ.
    Shares are of the pods whose uids are `wanted`, or of all; the idle rest always counts all.
    """
    whole = node.span(now)
    if not whole:
        return
    spans = [(pod, pod.span(now).within(whole)) for pod in pods]
    there = sorted(((span, pod) for pod, span in spans if span), key=lambda found: (found[0], found[1].uid))
    edges = {whole.start, whole.end} | {edge for span, _ in there for edge in (span.start, span.end)}
    present: dict[str, PodAllocation] = {}
    following, ending = 0, sorted(there, key=lambda found: (found[0].end, found[1].uid))
    ended, sums = 0, _Sums()
    for start, end in pairwise(sorted(edges)):
        while following < len(there) and there[following][0].start <= start:
            pod = there[following][1]
            sums.add(pod, 1)
            if wanted is None or pod.uid in wanted:
                present[pod.uid] = pod
            following += 1
        while ended < len(ending) and ending[ended][0].end <= start:
            pod = ending[ended][1]
            sums.add(pod, -1)
            present.pop(pod.uid, None)
            ended += 1
        yield NodeShares(Interval(start, end), *_shares(node, sums, present.values()))


def _shares(
    node: NodeLifetime, sums: _Sums, pods: Iterable[PodAllocation]
) -> tuple[Mapping[str, Fraction], Fraction]:
    """Return the share of each of the pods while `sums` is held on `node`, and the idle rest.

    Pods share a node of unknown size by what they hold. Pods that hold nothing
    at all have equal parts of a node that has nothing to be counted, and none of one that has.
    """
    amounts: dict[str, int] | dict[str, Fraction]
    if node.devices or sums.devices:
        there, taken = Fraction(node.devices), Fraction(sums.devices)
        amounts = {pod.uid: pod.devices for pod in pods}
    elif node.cpu or sums.cpu:
        there, taken = node.cpu, sums.cpu
        amounts = {pod.uid: pod.cpu for pod in pods}
    else:
        there = taken = Fraction(sums.pods)
        amounts = {pod.uid: 1 for pod in pods}
    whole = max(there, taken)
    if not whole:
        return {}, Fraction(1)
    return {uid: amount / whole for uid, amount in amounts.items() if amount}, 1 - taken / whole


def infer_nodes(
    pods: Iterable[PodAllocation], now: int
) -> list[tuple[NodeLifetime, Sequence[PodAllocation]]]:
    """Infer nodes without records from their pods, with the pods on each.

    A node exists while one of its pods does. It follows, in each second, from the pods that are on it then,
    and from nothing else: a query for one hour sees no other pods, and parts of a time add up to the whole.
    It has the price of the first of them, and as many devices as their profiles state, so that no share
    depends on records of other pods; the rest is idle. Where no profile states it, the node's size is not
    known, and nothing of it is ever idle.
    """
    on: dict[str, list[tuple[Interval, PodAllocation]]] = defaultdict(list)
    for pod in pods:
        if span := pod.span(now):
            on[pod.node].append((span, pod))
    return [found for there in on.values() for found in _periods(there)]


def _periods(
    there: Iterable[tuple[Interval, PodAllocation]],
) -> Iterator[tuple[NodeLifetime, Sequence[PodAllocation]]]:
    """Yield a node for each period in which pods of one node are there and imply the same node."""
    coming = deque(sorted(there, key=lambda at: (at[0].start, at[1].uid)))
    edges = sorted({edge for span, _ in coming for edge in (span.start, span.end)})
    present: deque[tuple[Interval, PodAllocation]] = (
        deque()
    )  # in the order in which they came, and some who left
    devices: list[tuple[int, int]] = []  # a heap of minus what their profiles say, and until when
    known: tuple[Sku, int] | None = None
    on: list[PodAllocation] = []
    begun = 0
    for second in edges:
        came = []
        while coming and coming[0][0].start == second:
            span, pod = coming.popleft()
            came.append((span, pod))
            heappush(devices, (-pod.node_devices, span.end))
        present.extend(came)
        while present and present[0][0].end <= second:
            present.popleft()
        while devices and devices[0][1] <= second:
            heappop(devices)
        said = (present[0][1].sku, -devices[0][0]) if present else None
        if said == known:
            on.extend(pod for _, pod in came)
            continue
        if known is not None:
            yield _told_by(on[0].node, known, Interval(begun, second)), on
        known, begun, on = said, second, [pod for span, pod in present if second < span.end]


def _told_by(node: str, known: tuple[Sku, int], span: Interval) -> NodeLifetime:
    sku, devices = known
    return NodeLifetime(node, node, sku, span.start, EndTime(TOLD, span.end), devices)
