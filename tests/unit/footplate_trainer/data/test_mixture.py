"""Fixed shares of several sources, from any place of the order and without state."""

from __future__ import annotations

import numpy as np
import pytest

from footplate_trainer.data.datasets import SequenceDataset
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.mixture import MOST_TURNS, Mixture, MixtureSource, source_counts, source_cycle
from footplate_trainer.data.order import Int64s
from tests.unit.footplate_trainer.data.conftest import WriteShards

CONTEXT = 8
WEIGHTS = {"web": 5.0, "code": 3.0, "books": 2.0}


@pytest.fixture
def mixture(write_shards: WriteShards) -> Mixture:
    """Three sources of 30, 12 and 5 samples, each with tokens of its own."""
    sources = []
    for number, (name, weight) in enumerate(WEIGHTS.items()):
        first, samples = 107 + 120 * number, (30, 12, 5)[number]
        tokens = [first + place % 120 for place in range(samples * CONTEXT)]
        sources.append(
            MixtureSource(name, weight, SequenceDataset(write_shards([tokens], folder=name), CONTEXT))
        )
    return Mixture(sources)


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        pytest.param([0.7, 0.2, 0.1], [7, 2, 1], id="decimal"),
        pytest.param([3.0, 1.0], [3, 1], id="ratio"),
        pytest.param([2.0, 4.0, 2.0], [1, 2, 1], id="reduced"),
        pytest.param([0.5], [1], id="only-one"),
        pytest.param([1e-6, 1.0], [1, MOST_TURNS - 1], id="tiny-has-a-turn"),
    ],
)
def test_weights_become_turns(weights: list[float], counts: list[int]) -> None:
    assert source_counts(weights) == counts


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param([1.0, 1.0], id="two"),
        pytest.param([0.7, 0.2, 0.1], id="decimal"),
        pytest.param([0.123456, 0.3, 0.9, 0.01], id="odd"),
        pytest.param([1.0 / (1 + place) for place in range(20)], id="twenty"),
    ],
)
def test_every_prefix_has_its_shares(weights: list[float]) -> None:
    turn, counts = source_cycle(weights), source_counts(weights)
    given = (np.arange(len(weights))[:, None] == turn).cumsum(axis=1)
    ideal = np.outer(np.array(counts) / sum(counts), np.arange(1, len(turn) + 1))
    assert np.abs(given - ideal).max() < 1
    assert given[:, -1].tolist() == counts
    assert np.abs(np.array(counts) / sum(counts) - np.array(weights) / sum(weights)).max() < 2e-3


def source_of(mixture: Mixture, ids: Int64s) -> Int64s:
    """Which source each sample is from: ids are numbered source after source."""
    ends = np.cumsum([len(source.dataset) for source in mixture.sources])
    return np.searchsorted(ends, ids, side="right")


def test_each_source_has_its_own_epochs(mixture: Mixture) -> None:
    indices = np.arange(600)
    ids = mixture.sample_ids(4, indices)
    source = source_of(mixture, ids)
    first = 0
    for number, (size, weight) in enumerate(zip((30, 12, 5), WEIGHTS.values(), strict=True)):
        mine = ids[source == number] - first
        assert len(mine) == 600 * weight / 10
        epochs = [mine[start : start + size] for start in range(0, len(mine) - size + 1, size)]
        assert len(epochs) >= 10
        assert all(sorted(epoch.tolist()) == list(range(size)) for epoch in epochs)
        assert not np.array_equal(epochs[0], epochs[1])
        first += size


def test_adding_a_source_shuffles_no_other(mixture: Mixture) -> None:
    def order(of: Mixture, number: int) -> list[int]:
        indices = np.arange(400)
        ids = of.sample_ids(4, indices)
        return ids[source_of(of, ids) == number][:60].tolist()

    fewer = Mixture(mixture.sources[:2])
    assert [order(fewer, number) for number in (0, 1)] == [order(mixture, number) for number in (0, 1)]


def test_a_sample_is_its_sources(mixture: Mixture) -> None:
    for sample_id, name in (
        (0, "web"),
        (29, "web"),
        (30, "code"),
        (41, "code"),
        (42, "books"),
        (46, "books"),
    ):
        tokens = mixture.get(sample_id).tokens
        first = 107 + 120 * list(WEIGHTS).index(name)
        assert tokens.min() >= first and tokens.max() < first + 120


def loader(mixture: Mixture, rank: int = 0, degree: int = 1) -> BatchLoader:
    return BatchLoader(
        mixture, seed=9, global_batch_size=12, micro_batch_size=2, data_rank=rank, data_degree=degree
    )


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_a_step_is_the_same_on_any_number_of_ranks(mixture: Mixture, degree: int) -> None:
    for step in (0, 7):
        alone = loader(mixture).build(step)
        dealt = [loader(mixture, rank, degree).build(step) for rank in range(degree)]
        assert {batch.sample_digest for batch in dealt} == {alone.sample_digest}
        assert {name: sum(batch.counts[name] for batch in dealt) for name in alone.counts} == alone.counts
        assert sorted(row for batch in dealt for row in rows(batch)) == sorted(rows(alone))


def rows(batch) -> list[tuple[int, ...]]:
    return [
        tuple(tokens.tolist())
        for micro in batch.micro_batches
        for tokens, real in zip(micro.tokens, micro.real, strict=True)
        if real
    ]


def test_the_order_goes_on_when_the_world_changes_in_the_middle(mixture: Mixture) -> None:
    undisturbed = [loader(mixture).build(step).sample_ids for step in range(40)]
    elastic = [loader(mixture, degree=1 + step // 3 % 4).build(step).sample_ids for step in range(40)]
    assert np.array_equal(np.concatenate(undisturbed), np.concatenate(elastic))
