"""On which Nodes pods are, as they were found when each was heard of first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from footplate_contracts.names import Role
from footplate_ledger.usage import PodUsage
from footplate_operator.errors import ClusterError
from footplate_operator.usage.kept import Kept
from footplate_operator.usage.known import OwnUsage
from footplate_operator.usage.node_keeper import NodeKeeper
from footplate_operator.usage.pods import Terms, moved, used
from footplate_operator.usage.sighting import Sighting


@dataclass(eq=False)
class Places:
    """Of the pods of all owners in `kept`, by uid of the owner; `second` is now."""

    nodes: NodeKeeper
    kept: Mapping[str, Kept]
    second: Callable[[], int]
    _on: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def usage(self, kept: Kept) -> OwnUsage:
        """What an account needs."""
        pods = list(kept.records.pods.values())
        there = sorted({pod.node for pod in pods})
        others = [
            pod
            for node in there
            for uid, owner in self._on[node].items()
            if owner != kept.owner.uid and owner in self.kept
            if (pod := self.kept[owner].records.pods.get(uid)) is not None  # its owner may be read anew
        ]
        return OwnUsage(pods, others, self.nodes.of(there))

    async def begin(self, kept: Kept, pod: Sighting) -> None:
        """Find the Node of a pod that is new; raises ClusterError."""
        terms = kept.terms
        if not terms.name or (pod.profile and pod.profile != terms.name):
            terms = Terms(pod.profile, self.nodes.profiles().get(pod.profile))
        try:
            node = await self.nodes.find(pod.node, pod.bound)
            if node is not None:
                await self.nodes.load([node.uid])
        except ClusterError:
            if not pod.over:
                raise
            node = None  # it is about to go, and so is what is known of it
        usage = used(pod, kept.owner, terms, kept.attempt_of(pod.bound), node, self.second())
        kept.put(usage, pod.name)
        self.take([usage])
        self.nodes.bind(usage.node, Terms() if pod.role == Role.COORDINATOR else terms)

    def take(self, pods: Iterable[PodUsage]) -> None:
        """Pods that are known to be on their Nodes."""
        for pod in pods:
            self._on[pod.node][pod.uid] = pod.owner.uid

    def drop(self, pods: Iterable[PodUsage]) -> None:
        """Pods of which nothing is known any more."""
        for pod in pods:
            self._on[pod.node].pop(pod.uid, None)
            if not self._on[pod.node]:
                del self._on[pod.node]

    async def load(self, kept: Kept) -> None:
        """Read what was written of the Nodes of an owner's pods; raises ClusterError.

        A pod that was heard of before its Node, where that was made anew with its name, was put down for the
        one before it.
        """
        pods = kept.records.pods
        await self.nodes.load({pod.node for pod in pods.values()})
        found = [(pod, self.nodes.successor(pod.node, pod.start)) for pod in pods.values()]
        for pod, node in found:
            if node is not None:
                profile = self.nodes.profiles().get(pod.goods.profile)
                self.drop([pod])
                kept.records.replace(moved(pod, node, profile))
                self.take([pods[pod.uid]])
                self.nodes.bind(node.uid, Terms(pod.goods.profile, profile))
