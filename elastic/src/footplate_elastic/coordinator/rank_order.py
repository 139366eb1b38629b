"""Order of a generation's members, which determines their ranks.

Without topology domains the order is that of the slots, so survivors keep their
ranks and a substitute takes those of the worker it replaces. With domains, the nodes
of one copy of the model (all pipeline stages of one slice of the data ranks) come
from one domain as far as possible: data-parallel traffic crosses domains first. What
a rank computes follows from its number alone, so no order changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Self

from footplate_contracts.rendezvous import JoinRequest, Member
from footplate_contracts.v1alpha1.parallelism import Parallelism


@dataclass(frozen=True)
class RankOrder:
    """Shape of a model's copy in nodes, and the topology domain of each node."""

    stages: int = 1  # of the pipeline
    width: int = 1  # nodes that share one stage's tensor and context ranks
    domains: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, parallelism: Parallelism, ranks_per_node: int) -> Self:
        """Return the order for a run that has `ranks_per_node` ranks on each node."""
        width = -(-parallelism.tensor * parallelism.context // ranks_per_node)
        return cls(stages=parallelism.pipeline, width=width)

    def members(self, joins: Sequence[JoinRequest]) -> list[Member]:
        """Return the members of a generation in order of their ranks."""
        ordered = sorted(joins, key=lambda join: join.agent.index)
        if self.domains:
            ordered = self._by_domain(ordered)
        firsts = accumulate((join.agent.local_world_size for join in ordered), initial=0)
        return [
            Member(agent=join.agent, group_rank=group_rank, first_rank=first_rank, store_port=join.store_port)
            for group_rank, (join, first_rank) in enumerate(zip(ordered, firsts, strict=False))
        ]

    def _by_domain(self, joins: Sequence[JoinRequest]) -> list[JoinRequest]:
        seated = dict(zip(self._seats(len(joins)), self._neighbours(joins), strict=True))
        return [seated[group_rank] for group_rank in range(len(joins))]

    def _seats(self, nodes: int) -> list[int]:
        """Return the group ranks of `nodes` nodes, one copy of the model after the other.

        The grid of ranks has its stages outermost: see footplate_planning.topology.
        """
        stage = nodes // self.stages
        if nodes % self.stages or stage % self.width:
            return list(range(nodes))  # a node has ranks of several stages
        return [
            number * stage + first + place
            for first in range(0, stage, self.width)
            for number in range(self.stages)
            for place in range(self.width)
        ]

    def _neighbours(self, joins: Sequence[JoinRequest]) -> list[JoinRequest]:
        """Return `joins` by domain and node; those that complete no copy in a domain come last."""
        domains: dict[str, dict[str, list[JoinRequest]]] = {}
        for join in joins:
            node = join.agent.node_name
            domains.setdefault(self.domains.get(node, ""), {}).setdefault(node, []).append(join)
        whole: list[JoinRequest] = []
        rest: list[JoinRequest] = []
        for nodes in domains.values():
            found = [join for there in nodes.values() for join in there]
            complete = len(found) - len(found) % (self.stages * self.width)
            whole += found[:complete]
            rest += found[complete:]
        return whole + rest
