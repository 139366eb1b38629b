"""Who has how much of a node, second by second; pure.

Pods on one node share its seconds by their devices; where the node has none, by the CPU that they request.
What nobody holds is idle. A share is an exact fraction, and at any second shares and idle are one together.

Devices are held by one pod at a time, but intervals of whole seconds, and a pod that nobody saw end, may
overlap: where more is held than there is, all that hold it share the whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from footplate_ledger.time import Span
from footplate_ledger.usage import TOLD, Evidence, NodeUsage, PodUsage


@dataclass(frozen=True, slots=True)
class Held:
    """A part of a node's time: which pods have which share of it, and what nobody holds."""

    span: Span
    shares: Mapping[str, Fraction]  # by the pod's uid, of those that were asked about
    idle: Fraction


@dataclass(slots=True)
class _Sums:
    """What the pods hold that are on a node at once; there may be very many, so they come and go."""

    devices: int = 0
    cpu: Fraction = Fraction(0)
    pods: int = 0

    def add(self, pod: PodUsage, times: int) -> None:
        self.devices += times * pod.devices
        self.cpu += times * pod.cpu
        self.pods += times


def held(
    node: NodeUsage, pods: Iterable[PodUsage], now: int, wanted: Collection[str] | None = None
) -> Iterator[Held]:
    """The time of `node` until `now`, in parts during which its pods are the same; in order, without gaps.

    Shares are told of the pods whose uids are `wanted`, or of all; what is idle always counts all.
    """
    whole = node.span(now)
    spans = [(pod, pod.span(now).within(whole)) for pod in pods]
    there = sorted(((span, pod) for pod, span in spans if span), key=lambda found: (found[0], found[1].uid))
    edges = {whole.start, whole.end} | {edge for span, _ in there for edge in (span.start, span.end)}
    present: dict[str, PodUsage] = {}
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
        yield Held(Span(start, end), *_shares(node, sums, present.values()))


def _shares(
    node: NodeUsage, sums: _Sums, pods: Iterable[PodUsage]
) -> tuple[Mapping[str, Fraction], Fraction]:
    """What each of the pods has while so much is held on `node`, and what is idle.

    A node of which it is not known what it has is shared by what its pods hold. Pods that hold nothing
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


def told_by(pods: Iterable[PodUsage], now: int) -> list[NodeUsage]:
    """Nodes that nobody told of but their pods: each is there for as long as one of its pods is.

    Of its devices it has as many as the profiles of its pods say, so that nobody's share rests on what is
    known of others; what they do not hold is idle. Where no profile says it, what such a node has is not
    known, and nothing of it is ever idle.
    """
    on: dict[str, list[tuple[Span, PodUsage]]] = defaultdict(list)
    for pod in pods:
        if span := pod.span(now):
            on[pod.node].append((span, pod))
    return [
        node for there in on.values() for node in _stretches(sorted(there, key=lambda at: (at[0], at[1].uid)))
    ]


def _stretches(there: Sequence[tuple[Span, PodUsage]]) -> Iterator[NodeUsage]:
    """One for each stretch of time in which at least one of these pods of one node is there."""
    (span, first), *others = there
    devices = first.node_devices
    for following, pod in others:
        if following.start > span.end:
            yield _told_by(first, span, devices)
            span, first, devices = following, pod, pod.node_devices
        else:
            span = Span(span.start, max(span.end, following.end))
            devices = max(devices, pod.node_devices)
    yield _told_by(first, span, devices)


def _told_by(pod: PodUsage, span: Span, devices: int) -> NodeUsage:
    return NodeUsage(pod.node, pod.node, pod.goods, span.start, Evidence(TOLD, span.end), devices)
