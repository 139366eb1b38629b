"""Who does what: arithmetic on degrees."""

from __future__ import annotations

import pytest

from footplate_contracts.v1alpha1.training import Sharding
from footplate_trainer.parallel.topology import Topology, legal_node_counts
from footplate_trainer.parallel.world import RankEnvironment, StoreAddress, read_environment


@pytest.mark.parametrize(
    ("sharding", "shards", "replicas", "replica_of_last"),
    [
        pytest.param(Sharding.FULL, 6, 1, 0, id="sharded"),
        pytest.param(Sharding.NONE, 1, 6, 5, id="whole-copies"),
    ],
)
def test_six_ranks(sharding: Sharding, shards: int, replicas: int, replica_of_last: int) -> None:
    topology = Topology(6, sharding)

    assert (topology.shards, topology.replicas, topology.replica_of(5)) == (shards, replicas, replica_of_last)


def test_a_world_has_a_rank() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Topology(0, Sharding.FULL)


@pytest.mark.parametrize(
    ("processes", "ranks_per_copy", "legal"),
    [
        pytest.param(2, 1, (1, 2, 3, 4), id="data-only"),
        pytest.param(2, 4, (2, 4), id="copies-over-two-nodes"),
        pytest.param(8, 4, (1, 2, 3, 4), id="copies-within-a-node"),
        pytest.param(1, 5, (), id="none-fits"),
    ],
)
def test_legal_node_counts(processes: int, ranks_per_copy: int, legal: tuple[int, ...]) -> None:
    assert legal_node_counts(1, 4, processes, ranks_per_copy) == legal


def test_without_a_word_in_the_environment_a_rank_is_alone() -> None:
    assert read_environment({}) == RankEnvironment(rank=0, world_size=1, local_rank=0, store=None)


@pytest.mark.parametrize(
    ("extra", "by_agent", "prefix"),
    [
        pytest.param({"TORCHELASTIC_RESTART_COUNT": "2"}, False, "ranks/2", id="torchrun"),
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
