"""Cached accounts of one run, for repeated requests; pure but for the cache.

A run has had thousands of pods in the end, of which hundreds are there. The usage of a node that ended
before the first running pod began there never changes: it is computed once, and again only if a
record of it changes. Usage that goes on is added up anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from footplate_ledger.account import Account, Tariff
from footplate_ledger.cost_sums import CostAggregator
from footplate_ledger.prices import FOREVER
from footplate_ledger.usage import RUNNING, TOLD, EndTime, NodeLifetime, PodAllocation

_ALWAYS: Final = (-FOREVER, FOREVER)
_OWN: Final = 0  # the key of the run's pods in a cost sum; nothing else is counted


@dataclass(frozen=True)
class _Part:
    """Part of a node's usage; `node` is None where only pods report it."""

    node: NodeLifetime | None
    pods: Sequence[PodAllocation]


@dataclass
class RunCostCache:
    """Cache of one run: by node its ended usage, with the cost."""

    aggregator: type[CostAggregator] = CostAggregator
    _tariff: Tariff | None = None
    _over: dict[str, tuple[_Part, Account]] = field(default_factory=dict)
    _sum: Account = field(default_factory=Account)

    def of(
        self,
        pods: Iterable[PodAllocation],
        others: Iterable[PodAllocation],
        nodes: Iterable[NodeLifetime],
        tariff: Tariff,
        at: int,
    ) -> Callable[[int], Account]:
        """Return a function from any second since `at` to the account of `pods` by then.

        Args:
            others: pods of other runs, on the same nodes.
            nodes: the known nodes.
        """
        own = {pod.uid: pod for pod in pods}
        told, on = {node.uid: node for node in nodes}, _by_node([*own.values(), *others])
        over: dict[str, _Part] = {}
        live: list[_Part] = []
        for uid in {pod.node: None for pod in own.values()}:  # in the order of pods
            ended, going_on = _split(on[uid], at)
            if any(pod.uid in own for pod in ended):
                over[uid] = _Part(_until(told.get(uid), max(pod.end.until for pod in ended), at), ended)
            if any(pod.uid in own for pod in going_on):
                live.append(_Part(told.get(uid), going_on))
        self._remember(over, own, tariff, at)
        so_far = self._sum
        return lambda second: so_far + self._account(live, own, tariff, second)

    def _remember(
        self, over: Mapping[str, _Part], own: Mapping[str, PodAllocation], tariff: Tariff, at: int
    ) -> None:
        known = self._over if tariff is self._tariff else {}
        kept = {uid: known[uid] for uid, part in over.items() if uid in known and known[uid][0] == part}
        if tariff is self._tariff and len(kept) == len(over) == len(known):
            return
        fresh = {
            uid: (part, self._account([part], own, tariff, at))
            for uid, part in over.items()
            if uid not in kept
        }
        self._tariff, self._over = tariff, kept | fresh
        self._sum = sum((account for _, account in self._over.values()), Account())

    def _account(
        self, parts: Iterable[_Part], own: Mapping[str, PodAllocation], tariff: Tariff, at: int
    ) -> Account:
        cost_sums = self.aggregator(tariff, at, _ALWAYS)
        for part in parts:
            cost_sums.add(
                part.node, part.pods, lambda pod: _OWN if pod.uid in own else None, lambda sku: None
            )
        found = cost_sums.found.get((_OWN, 0))
        return Account() if found is None else found.account(tariff.book)


def _by_node(pods: Iterable[PodAllocation]) -> Mapping[str, Sequence[PodAllocation]]:
    on: defaultdict[str, list[PodAllocation]] = defaultdict(list)
    for pod in {pod.uid: pod for pod in pods}.values():
        on[pod.node].append(pod)
    return on


def _split(pods: Sequence[PodAllocation], at: int) -> tuple[Sequence[PodAllocation], Sequence[PodAllocation]]:
    """Split into the pods that had ended before any of the others began, and the others."""
    live = [pod for pod in pods if pod.end.known == RUNNING or pod.end.until >= at]
    begins = min((pod.start for pod in live), default=FOREVER)
    staying = {pod.uid for pod in live}
    ended = [pod for pod in pods if pod.uid not in staying]
    ended.sort(key=lambda pod: (pod.end.until, pod.uid))
    while ended and ended[-1].end.until > begins:
        live.append(ended.pop())
        begins = min(begins, live[-1].start)
    return ended, live


def _until(node: NodeLifetime | None, second: int, at: int) -> NodeLifetime | None:
    """Return the node as if it had been gone in `second`."""
    if node is None:
        return None
    return replace(node, end=EndTime(TOLD, min(node.span(at).end, second)))
