"""Who does what: arithmetic on degrees."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.v1alpha1.parallelism import Parallelism
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.topology import (
    RankCoordinates,
    Topology,
    context_chunks,
    legal_node_counts,
    split_layers,
)
from footplate_trainer.errors import UserMistake
from footplate_trainer.parallel.world import RankEnvironment, StoreAddress, read_environment


def parallelism(**fields: Any) -> Parallelism:
    return Parallelism.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "shards", "copies", "copy_of_last"),
    [
        pytest.param({}, 6, 1, 0, id="sharded"),
        pytest.param({"sharding": "none"}, 1, 6, 5, id="whole-copies"),
        pytest.param({"sharding": "zero1"}, 6, 1, 0, id="optimizer"),
        pytest.param({"sharding": "hybrid", "replicas": 2}, 3, 2, 1, id="hybrid"),
        pytest.param({"context": 2}, 6, 1, 0, id="context-ranks-share-the-shards"),
        pytest.param({"context": 2, "sharding": "none"}, 1, 6, 5, id="context-ranks-hold-copies"),
        pytest.param({"tensor": 3}, 2, 1, 0, id="tensor-ranks-do-not"),
        pytest.param({"pipeline": 3, "sharding": "none"}, 1, 2, 1, id="nor-pipeline-ranks"),
    ],
)
def test_six_ranks(fields: dict[str, Any], shards: int, copies: int, copy_of_last: int) -> None:
    topology = Topology.of(6, parallelism(**fields))

    assert (topology.shards, topology.copies, topology.copy_of(5)) == (shards, copies, copy_of_last)


def test_neighbours_in_rank_differ_in_tensor_first() -> None:
    topology = Topology.of(16, parallelism(tensor=2, context=2, pipeline=2))

    assert [topology.coordinates(rank) for rank in (1, 2, 4, 8)] == [
        RankCoordinates(pipeline=0, data=0, context=0, tensor=1),
        RankCoordinates(pipeline=0, data=0, context=1, tensor=0),
        RankCoordinates(pipeline=0, data=1, context=0, tensor=0),
        RankCoordinates(pipeline=1, data=0, context=0, tensor=0),
    ]
    assert [topology.rank(topology.coordinates(rank)) for rank in range(16)] == list(range(16))
    assert [rank for rank in range(16) if topology.counts_samples(rank)] == [0, 4]
    assert next(topology.context_groups()) == [0, 2]
    assert next(topology.holder_groups([0, 1])) == [0, 8]


@pytest.mark.parametrize(
    ("world_size", "fields", "message"),
    [
        pytest.param(0, {}, "0 ranks cannot be divided", id="nobody"),
        pytest.param(6, {"tensor": 2, "pipeline": 2}, "6 ranks .* = 4; use a multiple", id="slices"),
        pytest.param(
            6,
            {"sharding": "hybrid", "replicas": 4},
            "replicas 4 does not divide the 6 data-parallel ranks",
            id="replicas",
        ),
    ],
)
def test_ranks_that_form_no_grid(world_size: int, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Topology.of(world_size, parallelism(**fields))


@pytest.mark.parametrize(
    ("schedule", "stages"),
    [
        pytest.param("Interleaved1F1B", [(0, 2), (1, 3)], id="in-turn"),
        pytest.param("ZBV", [(0, 3), (1, 2)], id="in-a-v"),
    ],
)
def test_stages_are_dealt_to_pipeline_ranks(schedule: str, stages: list[tuple[int, ...]]) -> None:
    topology = Topology.of(2, parallelism(pipeline=2, virtualStages=2, pipelineSchedule=schedule))

    assert [topology.stages_of(rank) for rank in range(2)] == stages


@pytest.mark.parametrize(
    ("costs", "stages", "first", "last", "sizes"),
    [
        pytest.param([1.0] * 8, 1, 0.0, 3.0, [8], id="one-stage"),
        pytest.param([1.0] * 8, 4, 0.0, 0.0, [2, 2, 2, 2], id="even"),
        pytest.param([1.0] * 8, 4, 0.0, 3.0, [2, 2, 3, 1], id="a-dear-head"),
        pytest.param([1.0, 1.0, 1.0, 4.0], 2, 0.0, 0.0, [3, 1], id="a-dear-layer"),
        pytest.param([1.0] * 3, 3, 9.0, 9.0, [1, 1, 1], id="a-layer-each"),
    ],
)
def test_layers_are_split_by_cost(
    costs: list[float], stages: int, first: float, last: float, sizes: list[int]
) -> None:
    parts = split_layers(costs, stages, first, last)

    assert [len(part) for part in parts] == sizes
    assert [layer for part in parts for layer in part] == list(range(len(costs)))


def test_more_stages_than_layers() -> None:
    with pytest.raises(ValueError, match="3 layers cannot be split into 4 pipeline stages"):
        split_layers([1.0] * 3, 4, 0.0, 0.0)


def test_context_ranks_have_a_piece_of_each_end() -> None:
    assert [context_chunks(part, 3) for part in range(3)] == [(0, 5), (1, 4), (2, 3)]


@pytest.mark.parametrize(
    ("processes", "fields", "legal"),
    [
        pytest.param(2, {}, (1, 2, 3, 4), id="data-only"),
        pytest.param(2, {"tensor": 2, "pipeline": 2}, (2, 4), id="copies-over-two-nodes"),
        pytest.param(8, {"context": 4}, (1, 2, 3, 4), id="copies-within-a-node"),
        pytest.param(1, {"tensor": 5}, (), id="none-fits"),
        pytest.param(2, {"sharding": "hybrid", "replicas": 4}, (2, 4), id="hybrid"),
        pytest.param(4, {"pipeline": 4}, (1, 2), id="1F1B-has-eight-four-three-or-two-micro-batches"),
        pytest.param(4, {"pipeline": 4, "pipelineSchedule": "GPipe"}, (1, 2, 3, 4), id="GPipe-has-any"),
        pytest.param(
            2, {"pipeline": 2, "pipelineSchedule": "Interleaved1F1B"}, (1, 2, 3, 4), id="Interleaved1F1B"
        ),
    ],
)
def test_legal_node_counts(processes: int, fields: dict[str, Any], legal: tuple[int, ...]) -> None:
    assert legal_node_counts(1, 4, processes, parallelism(**fields), micro_batches=8) == legal


def test_a_rollout_wants_whole_copies_of_its_own() -> None:
    rollout = RolloutParallelism(tensor=2, pipeline=2)
    assert legal_node_counts(1, 6, 2, parallelism(), micro_batches=8, rollout=rollout) == (2, 4, 6)
    assert legal_node_counts(1, 6, 2, parallelism(tensor=6), micro_batches=8, rollout=rollout) == (6,)


def test_without_a_word_in_the_environment_a_rank_is_alone() -> None:
    assert read_environment({}) == RankEnvironment(rank=0, world_size=1, local_rank=0, store=None)


@pytest.mark.parametrize(
    ("told", "missing"),
    [
        pytest.param({"RANK": "0"}, "WORLD_SIZE, MASTER_PORT, MASTER_ADDR", id="rank-alone"),
        pytest.param(
            {"RANK": "0", "WORLD_SIZE": "x", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
            "WORLD_SIZE;",
            id="a-word",
        ),
    ],
)
def test_leftovers_of_another_launcher_are_refused(told: dict[str, str], missing: str) -> None:
    with pytest.raises(UserMistake, match=missing):
        read_environment(told)


@pytest.mark.parametrize(
    ("extra", "by_agent", "prefix"),
    [
        pytest.param({"TORCHELASTIC_RESTART_COUNT": "2"}, False, "ranks/0", id="torchrun-each-its-own-count"),
        pytest.param(
            {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2"},
            True,
            "ranks/2",
            id="torchrun-shared-store",
        ),
        pytest.param(
            {
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": "2",
                "FOOTPLATE_GENERATION": "1.7",
            },
            True,
            "ranks/1.7",
            id="agent",
        ),
    ],
)
def test_the_environment_names_the_place(extra: dict[str, str], by_agent: bool, prefix: str) -> None:
    told = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29"}

    assert read_environment({**told, **extra}) == RankEnvironment(
        rank=3, world_size=4, local_rank=1, store=StoreAddress("10.0.0.1", 29, by_agent, prefix)
    )
