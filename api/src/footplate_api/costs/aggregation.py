"""Reads usage node by node, and adds it up in a thread.

The pods that share a node determine each other's share: so all pods of a node are read, also pods that the
query excludes. A month of ten thousand runs is hundreds of thousands of rows: they are read in batches, and
added up beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from footplate_api.db.database import WORK_SECONDS, ReadSession
from footplate_api.usage import repository, usage_rows
from footplate_ledger.cost_sums import CostAggregator, Key
from footplate_ledger.intervals import Interval
from footplate_ledger.usage import NodeLifetime, PodAllocation, Sku

ROWS_AT_ONCE: Final = 1000
NODES_AT_ONCE: Final = 1000
SPANS_AT_ONCE: Final = 8
TIMEOUT_SECONDS: Final = WORK_SECONDS  # with a database that answers late


@dataclass(frozen=True)
class KeyFunctions:
    """Functions that return the key under which a pod or idle capacity is summed; None is not counted."""

    of_pod: Callable[[PodAllocation], Key | None]
    of_idle: Callable[[Sku], Key | None] = lambda sku: None


async def add_usage(
    session: ReadSession,
    aggregator: CostAggregator,
    span: Interval,
    keys: KeyFunctions,
    namespaces: Collection[str] | None = None,
    idle: bool = False,
) -> None:
    """Add the usage in `span`; given `namespaces`, only theirs and that of pods which shared their nodes.

    Nodes without pods are added if `idle` is set.
    """
    crowds = await repository.count_pods_by_node(session, span, namespaces)
    for nodes in batch_nodes(crowds, ROWS_AT_ONCE):
        rows = await repository.pods_on(session, nodes, span)
        told = await repository.nodes_of(session, nodes)
        await asyncio.to_thread(add, aggregator, rows, told, keys)
    if idle:
        await _add_empty(session, aggregator, span, keys, {node for node, _ in crowds})


async def add_node_usage(
    session: ReadSession, aggregator: CostAggregator, spans: Mapping[str, Interval], keys: KeyFunctions
) -> None:
    """Add the usage of these nodes, each within its own span."""
    nodes = sorted(spans)
    for start in range(0, len(nodes), SPANS_AT_ONCE):
        part = {node: spans[node] for node in nodes[start : start + SPANS_AT_ONCE]}
        rows = await repository.pods_beside(session, part)
        told = await repository.nodes_of(session, part)
        await asyncio.to_thread(add, aggregator, rows, told, keys)


async def _add_empty(
    session: ReadSession,
    aggregator: CostAggregator,
    span: Interval,
    keys: KeyFunctions,
    crowded: Collection[str],
) -> None:
    after = ""
    while found := await repository.nodes_during(session, span, after, NODES_AT_ONCE):
        empty = [node for node in found if node.uid not in crowded]
        await asyncio.to_thread(_add_nodes, aggregator, empty, keys)
        after = found[-1].uid


def batch_nodes(crowds: Iterable[tuple[str, int]], most: int) -> Iterator[Sequence[str]]:
    """Yield batches of nodes that have at most `most` pods together; a node with more is a batch of its own.

    >>> list(batch_nodes([("a", 2), ("b", 1), ("c", 9), ("d", 1)], 3))
    [['a', 'b'], ['c'], ['d']]
    """
    part: list[str] = []
    size = 0
    for node, pods in crowds:
        if part and size + pods > most:
            yield part
            part, size = [], 0
        part.append(node)
        size += pods
    if part:
        yield part


def add(
    aggregator: CostAggregator, rows: Iterable[Any], told: Mapping[str, NodeLifetime], keys: KeyFunctions
) -> None:
    """Add pods, which come node by node; `told` maps uids to the nodes that the operator reported."""
    for node, on in groupby(rows, key=attrgetter("node")):
        aggregator.add(told.get(node), map(usage_rows.usage_of, on), keys.of_pod, keys.of_idle)


def _add_nodes(aggregator: CostAggregator, nodes: Iterable[NodeLifetime], keys: KeyFunctions) -> None:
    for node in nodes:
        aggregator.add(node, (), keys.of_pod, keys.of_idle)
