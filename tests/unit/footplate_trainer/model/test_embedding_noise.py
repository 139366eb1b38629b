"""NEFTune's noise: as large as each document's own length says, and the same whatever rank draws it."""

from __future__ import annotations

import math

import pytest
import torch

from footplate_trainer.model.dropout import DropoutSeed
from footplate_trainer.model.network import EmbeddingNoise, document_lengths

DOCUMENTS = torch.tensor([[0, 0, 0, 0, 1, 1, -1, -1], [0, 1, 1, 1, 1, 1, 1, 1]])
LENGTHS = [[4, 4, 4, 4, 2, 2, 2, 2], [1, 7, 7, 7, 7, 7, 7, 7]]
HIDDEN = 4096


def seed(step: int = 3) -> DropoutSeed:
    return DropoutSeed(7, step, torch.tensor([10, 11]))


def noise(alpha: float = 5.0, columns: slice = slice(None), step: int = 3) -> torch.Tensor:
    """What is added to embeddings of zeros."""
    zeros = torch.zeros(2, 8, HIDDEN)[..., columns]
    return EmbeddingNoise(alpha)(zeros, document_lengths(DOCUMENTS), seed(step))


def test_a_length_is_that_of_the_document_in_its_row() -> None:
    assert document_lengths(DOCUMENTS).tolist() == LENGTHS


def test_noise_is_uniform_and_as_large_as_the_length_says() -> None:
    found = noise()
    for row, lengths in enumerate(LENGTHS):
        for place, length in enumerate(lengths):
            bound = 5.0 / math.sqrt(length * HIDDEN)
            drawn = found[row, place] / bound
            assert drawn.abs().max() <= 1.0
            assert drawn.mean().item() == pytest.approx(0.0, abs=0.04)
            assert drawn.std().item() == pytest.approx(1 / math.sqrt(3), abs=0.02)


def test_each_step_sample_and_place_has_its_own() -> None:
    first = noise()
    assert torch.equal(first, noise())
    assert not torch.equal(first, noise(step=4))
    assert not torch.equal(first[0, 0], first[0, 1]), "both of a document of 4"
    one_document = torch.zeros(2, 8, dtype=torch.int64)
    samples = EmbeddingNoise(5.0)(torch.zeros(2, 8, HIDDEN), document_lengths(one_document), seed())
    assert not torch.equal(samples[0], samples[1])


def test_a_shard_of_a_sequence_draws_what_the_whole_does() -> None:
    whole = noise()
    part = EmbeddingNoise(5.0)
    part.sequence_shard = 1
    lengths = document_lengths(DOCUMENTS)[:, 4:]
    assert torch.equal(part(torch.zeros(2, 4, HIDDEN), lengths, seed()), whole[:, 4:])
    some = torch.tensor([1, 2, 7])
    places = EmbeddingNoise(5.0)
    found = places(torch.zeros(2, 3, HIDDEN), document_lengths(DOCUMENTS)[:, some], seed(), some)
    assert torch.equal(found, whole[:, some])


def test_without_training_nothing_is_added() -> None:
    module = EmbeddingNoise(5.0).eval()
    x = torch.randn(2, 8, 16)
    assert torch.equal(module(x, document_lengths(DOCUMENTS), None), x)
    assert torch.equal(EmbeddingNoise(0.0)(x, document_lengths(DOCUMENTS), None), x)
