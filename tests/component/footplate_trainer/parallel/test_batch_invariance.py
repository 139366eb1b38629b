"""A sequence's log-probabilities have the same bits on any data degree, beside whatever a rank computes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.model.head_chunks import IGNORED
from footplate_trainer.model.inputs import Inputs, Targets
from footplate_trainer.model.tile_check import NoInvariantTiles
from footplate_trainer.parallel.batch_invariance import require_equal
from footplate_trainer.parallel.loss_objective import score_collector
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.stage_module import MicroBatchInputs
from footplate_trainer.parallel.world import init_distributed, read_environment
from tests.support.layout_list import Layout
from tests.support.layouts import config_of
from tests.support.ranks import run_ranks

BF16 = ("training.precision=bf16",)
ONE, TWO = Layout("one", 1, {}), Layout("two", 2, {"sharding": "full"})
TENSOR = Layout("tensor", 2, {"tensor": 2})
FOUR = Layout("tensor-of-4", 4, {"tensor": 4})
LENGTHS = (9, 3, 14)


def sequences() -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    return [torch.randint(60, (length,), generator=generator) for length in LENGTHS]


def micro_batch(rows: list[list[int]], length: int) -> MicroBatchInputs:
    """Rows of sequences, by their numbers."""
    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    documents, labels = torch.full_like(tokens, -1), torch.full_like(tokens, IGNORED)
    for row, numbers in enumerate(rows):
        first = 0
        for document, number in enumerate(numbers):
            sequence = sequences()[number]
            end = first + len(sequence)
            tokens[row, first:end], documents[row, first:end] = sequence, document
            labels[row, first : end - 1] = sequence[1:]
            first = end
    real = torch.ones(len(rows), dtype=torch.bool)
    return MicroBatchInputs(
        Inputs(tokens, documents), Targets(labels, documents.int(), torch.zeros(len(rows)), real)
    )


def computed(config: RunConfig) -> list[list[float]]:
    """As one rank: what is computed of the longest sequence, alone and beside others."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world, batch_invariant=True)
        found = []
        packings = [[[2]], [[0, 2]], [[1, 0, 2], [0, 1]], [[1, 2], [2, 0], [0, 1]]]
        for rows in packings if world.rank == 0 or config.parallelism.tensor > 1 else packings[::-1]:
            (first,) = (sum(LENGTHS[number] for number in rows[0][: rows[0].index(2)]),)
            collected = score_collector()
            batch = micro_batch(rows, 32)
            with torch.no_grad():
                model.passes.evaluate([batch], collected)
            found.append(collected.numbers_for(batch.targets)[0, 0, first : first + LENGTHS[2] - 1].tolist())
        return found


@pytest.mark.parametrize(
    ("layout", "precision"),
    [
        pytest.param(TWO, (), id="full"),
        pytest.param(TWO, BF16, id="full-bf16"),
        pytest.param(TENSOR, (), id="tensor"),
        pytest.param(TENSOR, BF16, id="tensor-bf16", marks=pytest.mark.long),
        pytest.param(FOUR, (), id="tensor-of-4", marks=pytest.mark.long),
        pytest.param(FOUR, BF16, id="tensor-of-4-bf16", marks=pytest.mark.long),
    ],
)
def test_bits_depend_on_neither_neighbours_nor_ranks(
    layout: Layout, precision: tuple[str, ...], tmp_path: Path
) -> None:
    expected = run_ranks(computed, 1, config_of(ONE, precision, tmp_path, tmp_path))[0][0]

    found = run_ranks(computed, layout.ranks, config_of(layout, precision, tmp_path, tmp_path))

    everywhere = [numbers for of_rank in found for numbers in of_rank]
    assert all(numbers == everywhere[0] for numbers in everywhere)
    assert (everywhere[0] == expected) == (layout is TWO)  # others cut matrices otherwise
    assert everywhere[0] == pytest.approx(expected, abs=2e-2 if precision else 1e-5)


def test_ranks_that_compute_other_bits_are_refused() -> None:
    require_equal([{"a": "1", "b": "2"}, {"b": "2", "c": "3"}])

    with pytest.raises(NoInvariantTiles, match="ranks 0 and 2 compute b with different bits"):
        require_equal([{"a": "1", "b": "2"}, {"a": "1"}, {"b": "3"}])
