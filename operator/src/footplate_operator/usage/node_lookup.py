"""Nodes of pods, looked up when each pod was first seen."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.names import Role
from footplate_ledger.usage import PodAllocation
from footplate_operator.errors import ClusterError
from footplate_operator.usage.node_tracker import NodeUsageTracker
from footplate_operator.usage.nodes import NodeObservation
from footplate_operator.usage.owner_records import OwnerRecords
from footplate_operator.usage.owner_usage import OwnerUsage
from footplate_operator.usage.pod_observation import PodObservation
from footplate_operator.usage.pods import PodProfile, build_pod_usage, move_to_node

_AT_ONCE: Final = 8
_ROLES: Final = frozenset(Role)


@dataclass(eq=False)
class NodeLookup:
    """Node lookup for the pods of all owners in `kept`, by uid of the owner; `second` returns now."""

    nodes: NodeUsageTracker
    kept: Mapping[str, OwnerRecords]
    second: Callable[[], int]
    _on: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def usage(self, kept: OwnerRecords) -> OwnerUsage:
        """Return the input of an owner's cost."""
        pods = list(kept.records.pods.values())
        there = sorted({pod.node for pod in pods})
        others = [
            pod
            for node in there
            for uid, owner in self._on[node].items()
            if owner != kept.owner.uid and owner in self.kept
            if (pod := self.kept[owner].records.pods.get(uid)) is not None  # its owner may be read anew
        ]
        return OwnerUsage(pods, others, self.nodes.list_usages(there))

    def unread(self, kept: OwnerRecords, pods: Iterable[PodObservation]) -> deque[PodObservation | str]:
        """Return new pods whose Nodes are to be found, and UIDs of Nodes whose records are to be read."""
        known = kept.records.pods.keys() | kept.places.keys()
        shown = {pod.uid: pod for pod in (*kept.heard.values(), *pods)}
        new = [pod for pod in shown.values() if pod.node and pod.role in _ROLES and pod.uid not in known]
        recorded = {pod.node for pod in kept.records.pods.values()}
        return deque([*new, *(uid for uid in sorted(recorded) if self.nodes.is_unread(uid))])

    async def read(self, kept: OwnerRecords, wanted: deque[PodObservation | str]) -> None:
        """Look up all items of `wanted`, until it is empty; raises ClusterError."""
        while wanted:
            sought = wanted.popleft()
            if isinstance(sought, str):
                await self.nodes.load([sought])
            else:
                kept.places[sought.uid] = sought, await self._node_of(sought)

    async def search(self, kept: OwnerRecords, pods: Iterable[PodObservation]) -> None:
        """Look up the Nodes of new pods in the background, and record the pods whose Nodes were found.

        A Node that is cached is found after one round of the loop. Raises ClusterError where the last search
        did.
        """
        if not kept.searches and (wanted := self.unread(kept, pods)):
            kept.placed = kept.placed or not any(isinstance(sought, str) for sought in wanted)
            tasks = (self.read(kept, wanted) for _ in range(min(_AT_ONCE, len(wanted))))
            kept.searches = [asyncio.create_task(task) for task in tasks]
            await asyncio.sleep(0)
        if all(task.done() for task in kept.searches):
            failed = [error for task in kept.searches if (error := task.exception()) is not None]
            kept.searches = []
            if failed:
                raise failed[0]
            kept.placed = True
        self.begin(kept)

    def begin(self, kept: OwnerRecords) -> None:
        """Record the pods whose Nodes were found."""
        for uid in list(kept.places):
            pod, node = kept.places.pop(uid)
            if uid not in kept.records.pods:
                self._begin(kept, pod, node)
        self._move(kept)

    async def _node_of(self, pod: PodObservation) -> NodeObservation | None:
        try:
            node = await self.nodes.find(pod.node, pod.bound)
            if node is not None:
                await self.nodes.load([node.uid])
        except ClusterError:
            if not pod.over:
                raise
            return None  # it is about to go, and so is what is known of it
        return node

    def _begin(self, kept: OwnerRecords, pod: PodObservation, node: NodeObservation | None) -> None:
        terms = kept.terms
        if not terms.name or (pod.profile and pod.profile != terms.name):
            terms = PodProfile(pod.profile, self.nodes.profiles().get(pod.profile))
        usage = build_pod_usage(pod, kept.owner, terms, kept.find_attempt(pod.bound), node, self.second())
        kept.put(usage)
        self.add_pods([usage])
        self.nodes.bind(usage.node, PodProfile() if pod.role == Role.COORDINATOR else terms)

    def add_pods(self, pods: Iterable[PodAllocation]) -> None:
        """Store the Nodes of these pods."""
        for pod in pods:
            self._on[pod.node][pod.uid] = pod.owner.uid

    def drop(self, pods: Iterable[PodAllocation]) -> None:
        """Remove pods."""
        for pod in pods:
            self._on[pod.node].pop(pod.uid, None)
            if not self._on[pod.node]:
                del self._on[pod.node]

    def _move(self, kept: OwnerRecords) -> None:
        """Move pods to their present Nodes.

        A pod that was seen before its Node, where that was created anew with the same name, was recorded on
        the earlier Node.
        """
        pods = kept.records.pods
        found = [(pod, self.nodes.successor(pod.node, pod.start)) for pod in pods.values()]
        for pod, node in found:
            if node is not None:
                profile = self.nodes.profiles().get(pod.sku.profile)
                self.drop([pod])
                kept.records.replace(move_to_node(pod, node, profile))
                self.add_pods([pods[pod.uid]])
                self.nodes.bind(node.uid, PodProfile(pod.sku.profile, profile))
