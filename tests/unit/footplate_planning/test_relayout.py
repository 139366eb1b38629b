"""Who sends what to whom when weights change their layout."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations

import pytest

from footplate_contracts.v1alpha1.parallelism import PipelineSchedule, Sharding
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.reshard import BlockTransfer, ReshardPlan, rollout_topology
from footplate_planning.shape import AdapterShape, ModelShape
from footplate_planning.topology import Topology

LLAMA = ModelShape(4, 32, 88, 4, 2, 8, vocabulary=99, context=24)
TIED = replace(LLAMA, tied_embeddings=True)
ADAPTED = replace(LLAMA, adapter=AdapterShape(4, 8.0, targets=("blocks.*", "head")))
ONE_HEAD = replace(LLAMA, key_value_heads=1)
ZBV = {"pipeline": 2, "schedule": PipelineSchedule.ZBV, "virtual_stages": 2}
CUBE = Topology(data=2, tensor=2, pipeline=2)
PAIRS = [
    pytest.param(LLAMA, Topology(data=3), (1, 1), id="uneven-shards-to-copies"),
    pytest.param(LLAMA, Topology(data=6), (2, 3), id="shards-to-tensor-and-pipeline"),
    pytest.param(LLAMA, CUBE, (1, 1), id="cube-to-copies"),
    pytest.param(LLAMA, CUBE, (4, 1), id="cube-to-tensor"),
    pytest.param(LLAMA, Topology(data=4, sharding=Sharding.HYBRID, replicas=2), (2, 1), id="hybrid"),
    pytest.param(LLAMA, Topology(data=2, context=2), (1, 4), id="context-to-pipeline"),
    pytest.param(TIED, Topology(data=2, **ZBV), (1, 2), id="tied"),
    pytest.param(TIED, Topology(pipeline=4), (2, 2), id="tied-to-tensor"),
    pytest.param(ADAPTED, CUBE, (2, 1), id="adapters"),
    pytest.param(ONE_HEAD, Topology(tensor=4), (2, 2), id="few-heads"),
    pytest.param(LLAMA, Topology(tensor=2, pipeline=2), (2, 2), id="as-it-was"),
]


def planned(shape: ModelShape, source: Topology, degrees: tuple[int, int], most: int = 2**20) -> ReshardPlan:
    tensor, pipeline = degrees
    target = rollout_topology(source.world_size, RolloutParallelism(tensor=tensor, pipeline=pipeline))
    return ReshardPlan.of(shape, source, target, 4, most)


def all_moves(plan: ReshardPlan, ranks: int) -> list[tuple[int, BlockTransfer]]:
    """(number of its round, move), as the receivers have them."""
    return [
        (number, move)
        for number, parts in enumerate(plan.rounds)
        for part in parts
        for rank in range(ranks)
        for move in part.incoming(rank)
    ]


@pytest.mark.parametrize(("shape", "source", "degrees"), PAIRS)
def test_each_rank_gets_all_of_its_part_once_from_whoever_holds_it(
    shape: ModelShape, source: Topology, degrees: tuple[int, int]
) -> None:
    plan = planned(shape, source, degrees)
    exchanges = {exchange.source.name: exchange for exchange in plan.exchanges}
    got = defaultdict(list)
    for _, move in all_moves(plan, source.world_size):
        assert exchanges[move.name].source.boxes[move.sender].intersection(move.box) == move.box
        got[move.name, move.receiver].append(move.box)
    for (name, receiver), boxes in got.items():
        wanted = exchanges[name].target.boxes[receiver]
        assert all(wanted.intersection(box) == box for box in boxes)
        assert not any(box.intersection(other) for box, other in combinations(boxes, 2))
        assert sum(box.numel for box in boxes) == wanted.numel
    assert len(got) == sum(len(exchange.target.boxes) for exchange in plan.exchanges)


@pytest.mark.parametrize(("shape", "source", "degrees"), PAIRS)
def test_what_is_received_is_what_is_sent_in_the_same_round(
    shape: ModelShape, source: Topology, degrees: tuple[int, int]
) -> None:
    plan = planned(shape, source, degrees)
    sent = [
        (number, move)
        for number, parts in enumerate(plan.rounds)
        for part in parts
        for rank in range(source.world_size)
        for move in part.outgoing(rank)
    ]
    received = all_moves(plan, source.world_size)

    assert len(sent) == len(received) and set(sent) == set(received)


@pytest.mark.parametrize(("shape", "source", "degrees"), PAIRS)
def test_little_is_on_its_way_at_once(shape: ModelShape, source: Topology, degrees: tuple[int, int]) -> None:
    plan, widest = planned(shape, source, degrees, most=4096), max(shape.hidden, shape.feed_forward)
    sends: Counter[tuple[int, int]] = Counter()
    receives: Counter[tuple[int, int]] = Counter()
    for number, move in all_moves(plan, source.world_size):
        if move.sender != move.receiver:
            sends[number, move.sender] += 4 * move.box.numel
            receives[number, move.receiver] += 4 * move.box.numel
    row = 4 * widest * source.world_size  # a round has a row of each block at least
    assert max(sends.values(), default=0) <= 4096 + row
    assert max(receives.values(), default=0) <= 4096 + row


@pytest.mark.parametrize(
    ("source", "degrees", "share"),
    [
        pytest.param(Topology(data=4), (1, 1), 3 / 4, id="all-but-its-shard"),
        pytest.param(Topology(data=4, sharding=Sharding.NONE), (1, 1), 0.0, id="copies-stay"),
        pytest.param(Topology(data=4, sharding=Sharding.NONE), (2, 2), 0.0, id="a-copy-has-each-part"),
        pytest.param(Topology(tensor=2, pipeline=2), (2, 2), 0.0, id="as-it-was"),
    ],
)
def test_so_much_of_the_network_comes_from_others(
    source: Topology, degrees: tuple[int, int], share: float
) -> None:
    shape = replace(LLAMA, vocabulary=128)
    plan = planned(shape, source, degrees)
    for rank in range(4):
        assert plan.received_bytes(rank) == 4 * share * shape.parameters
        assert plan.target_bytes(rank) - plan.received_bytes(rank) <= plan.source_bytes(rank, 4)


def test_holders_take_receivers_in_turn() -> None:
    plan = planned(LLAMA, Topology(data=8, sharding=Sharding.HYBRID, replicas=4), (1, 1))
    senders = Counter(
        move.sender for _, move in all_moves(plan, 8) if move.sender != move.receiver and move.box.numel > 32
    )

    assert len(senders) == 8 and max(senders.values()) == min(senders.values())
