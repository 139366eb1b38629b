"""Packing of a gang into one topology domain: a worker first, whose node decides where the others go.

A nodeSelector for all but the first worker costs the scheduler far less than pod affinity among
all of them. Domains in which the gang was incomplete before, or has too few free nodes, are what the first
worker prefers to avoid; it is not forbidden them, as programs of others come and go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from footplate_contracts.v1alpha1.placement import Pack


class Worker(Protocol):
    """Fields of a worker pod that decide where the others go."""

    @property
    def index(self) -> int:
        """Its slot."""

    @property
    def node(self) -> str:
        """Its node; empty before it has one."""

    @property
    def live(self) -> bool:
        """True while it runs or may still come to run."""


@dataclass(frozen=True)
class TargetDomain:
    """Topology domain of a pod that is made now."""

    pack: Pack
    domain: str = ""  # of its gang; empty: it is the first, or its gang's nodes have no such label
    avoided: frozenset[str] = frozenset()  # domains that the first worker prefers to avoid


@dataclass(frozen=True)
class Packing:
    """Domains of a run's nodes by the label of its pack."""

    pack: Pack
    domains: Mapping[str, str]  # by node, of those that its pods are on
    find_avoided: Callable[[], frozenset[str]]  # costs a look at every Node

    def find_domain(self, workers: Iterable[Worker]) -> str:
        """Return the domain of most live workers, of equal ones that of the lowest slot; empty for none."""
        live = sorted((pod for pod in workers if pod.live), key=lambda pod: pod.index)
        found = Counter(domain for pod in live if (domain := self.domains.get(pod.node, "")))
        return found.most_common(1)[0][0] if found else ""

    def awaits_first(self, workers: Iterable[Worker]) -> bool:
        """Return whether no second worker may be made yet."""
        live = [pod for pod in workers if pod.live]
        if not self.pack.required and any(pod.node for pod in live):
            return False  # a node without the label holds nobody up
        return not self.find_domain(live)

    def find_target(self, workers: Iterable[Worker]) -> TargetDomain:
        """Return the place of the next pod."""
        domain = self.find_domain(workers)
        return TargetDomain(self.pack, domain, frozenset() if domain else self.find_avoided())
