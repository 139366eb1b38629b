"""Packing of a gang into one topology domain: a first worker, whose node decides where the others go.

A nodeSelector for all but the first worker costs the scheduler far less than pod affinity among
all of them. The first worker prefers to avoid domains in which the gang was incomplete before, or that have
too few free nodes; it may use them, as other programs come and go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from footplate_contracts.v1alpha1.placement import PackPlacement


@dataclass(frozen=True)
class TargetDomain:
    """Topology domain for a new pod."""

    pack: PackPlacement
    domain: str = ""  # of its gang; empty: it is the first, or its gang's nodes have no such label
    avoided: frozenset[str] = frozenset()  # domains that the first worker prefers to avoid


@dataclass(frozen=True)
class GangPacking:
    """Domains of a run's nodes by the label of its pack.

    `nodes` below are the nodes of live workers, by slot, each empty before the worker has one.
    """

    pack: PackPlacement
    domains: Mapping[str, str]  # by node, of those that its pods are on
    find_avoided: Callable[[], frozenset[str]]  # costs a look at every Node

    def find_domain(self, nodes: Iterable[str]) -> str:
        """Return the domain of most workers, in a tie that of the lowest slot; empty for none."""
        found = Counter(domain for node in nodes if (domain := self.domains.get(node, "")))
        return found.most_common(1)[0][0] if found else ""

    def awaits_first(self, nodes: Sequence[str]) -> bool:
        """Return whether no second worker may be created yet."""
        # A node without the label holds nobody up, unless the label is required.
        return not self.find_domain(nodes) and (self.pack.required or not any(nodes))

    def find_target(self, nodes: Iterable[str]) -> TargetDomain:
        """Return the target domain of the next pod."""
        domain = self.find_domain(nodes)
        return TargetDomain(self.pack, domain, frozenset() if domain else self.find_avoided())
