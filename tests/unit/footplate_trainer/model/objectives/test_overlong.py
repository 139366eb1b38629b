"""Penalties of length: known answers, edges."""

from __future__ import annotations

import pytest
import torch

from footplate_trainer.model.objectives.advantages import soft_penalty
from tests.support.formulas import agrees


@pytest.mark.parametrize(
    ("length", "known"),
    [(0, 0.0), (12, 0.0), (13, -0.25), (14, -0.5), (16, -1.0), (17, -1.0)],
)
def test_known_answers(length: int, known: float) -> None:
    agrees(soft_penalty(torch.tensor([length]), 16, 4), [known], 0)


def test_the_papers_own_numbers() -> None:
    lengths = torch.tensor([16_384, 18_432, 20_480])
    agrees(soft_penalty(lengths, 20_480, 4_096), [0, -0.5, -1], 0)


@pytest.mark.parametrize("cache", [0, 17, -4])
def test_a_cache_that_is_no_part_of_the_length_is_refused(cache: int) -> None:
    with pytest.raises(ValueError, match=f"cache is {cache}; for answers of up to 16 tokens use 1 to 16"):
        soft_penalty(torch.tensor([3]), 16, cache)
