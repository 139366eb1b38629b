"""Ranks of nodes that stand in different topology domains."""

from __future__ import annotations

import pytest

from footplate_contracts.rendezvous import AgentIdentity, JoinRequest
from footplate_contracts.v1alpha1.parallelism import Parallelism, Sharding
from footplate_elastic.coordinator.rank_order import RankOrder
from footplate_planning.topology import Topology

RANKS = 2  # on each node


def join(index: int, node: str) -> JoinRequest:
    agent = AgentIdentity(
        index=index,
        incarnation=0,
        pod_name=f"w{index}",
        node_name=node,
        address="10.0.0.1",
        local_world_size=RANKS,
    )
    return JoinRequest(agent=agent, store_port=1)


def order(parallelism: Parallelism, domains: str, nodes: str = "") -> list[int]:
    """Slots by group rank; of slot i, `domains` has the domain and `nodes` the node."""
    joins = [join(index, nodes[index] if nodes else f"n{index}") for index in range(len(domains))]
    where = {join.agent.node_name: domains[join.agent.index] for join in joins}
    members = RankOrder(
        stages=RankOrder.of(parallelism, RANKS).stages,
        width=RankOrder.of(parallelism, RANKS).width,
        domains=where,
    ).members(joins[::-1])
    assert [member.group_rank for member in members] == list(range(len(joins)))
    assert [member.first_rank for member in members] == [RANKS * at for at in range(len(joins))]
    return [member.agent.index for member in members]


@pytest.mark.parametrize(
    ("parallelism", "domains", "slots"),
    [
        pytest.param(Parallelism(), "abab", [0, 2, 1, 3], id="data-ranks"),
        pytest.param(Parallelism(tensor=4), "abab", [0, 2, 1, 3], id="a-tensor-over-two-nodes"),
        pytest.param(Parallelism(tensor=4), "abbbbbaa", [0, 6, 1, 2, 3, 4, 7, 5], id="the-rest-comes-last"),
        pytest.param(Parallelism(pipeline=2), "aabb", [0, 2, 1, 3], id="two-stages-of-a-copy-in-one-domain"),
        pytest.param(
            Parallelism(pipeline=2, tensor=4), "abababab", [0, 2, 1, 3, 4, 6, 5, 7], id="stages-of-two-nodes"
        ),
        pytest.param(Parallelism(pipeline=4), "ab", [0, 1], id="more-stages-than-nodes"),
        pytest.param(Parallelism(pipeline=2), "aab", [0, 1, 2], id="stages-within-a-node"),
    ],
)
def test_domains_are_neighbourhoods(parallelism: Parallelism, domains: str, slots: list[int]) -> None:
    assert order(parallelism, domains) == slots


def test_pods_of_one_node_are_neighbours_within_their_domain() -> None:
    assert order(Parallelism(), "aaaabb", "xyxyzz") == [0, 2, 1, 3, 4, 5]


def test_without_domains_the_order_is_that_of_slots() -> None:
    members = RankOrder(stages=2, width=2).members([join(2, "c"), join(0, "a"), join(7, "b")])
    assert [member.agent.index for member in members] == [0, 2, 7]


@pytest.mark.parametrize("domains", ["abcdabcdabcdabcd", "aaaabbbbccccdddd", "abbbbcccccaaaaab"])
@pytest.mark.parametrize(
    "parallelism",
    [
        Parallelism(tensor=2, pipeline=2),
        Parallelism(tensor=4, pipeline=2),
        Parallelism(tensor=2, context=2, pipeline=2),
        Parallelism(tensor=4, sharding=Sharding.HYBRID, replicas=4),
    ],
)
def test_as_few_copies_of_the_model_as_can_be_have_ranks_in_two_domains(
    parallelism: Parallelism, domains: str
) -> None:
    placed = order(parallelism, domains)
    topology = Topology.of(RANKS * len(domains), parallelism)
    nodes_of_copy = parallelism.tensor * parallelism.context * parallelism.pipeline // RANKS
    whole = sum(domains.count(domain) // nodes_of_copy for domain in set(domains))
    columns = [{domains[placed[rank // RANKS]] for rank in ranks} for ranks in topology.copy_groups()]
    assert sum(len(column) == 1 for column in columns) == whole * len(columns) * nodes_of_copy // len(domains)
