"""Losses of whole texts, against what they are on paper."""

from __future__ import annotations

import math

import pytest
import torch

from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.text_losses import embedded_pairs, info_nce, mean_pool, summed_square_error

# Two texts of three positions; the second has one position of padding.
HIDDEN = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]], [[2.0, 2.0], [4.0, 6.0], [9.0, 9.0]]])
DOCUMENTS = torch.tensor([[0, 0, 0], [0, 0, -1]], dtype=torch.int32)
LABELS = torch.full((2, 3), -100)


def targets(values: list[float], real: list[bool]) -> Targets:
    return Targets(LABELS, DOCUMENTS, torch.tensor(values), torch.tensor(real))


def test_padding_has_no_part_in_the_mean() -> None:
    assert mean_pool(HIDDEN, DOCUMENTS).tolist() == [[3.0, 2.0], [3.0, 4.0]]
    assert mean_pool(HIDDEN, torch.full_like(DOCUMENTS, -1)).eq(0).all()


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        # Output 0 gives 3 + 2·2 = 7 and 3 + 2·4 = 11; wanted are 6 and 13.
        pytest.param([True, True], 1.0 + 4.0, id="both"),
        pytest.param([True, False], 1.0, id="one-is-a-filler"),
    ],
)
def test_square_error(real: list[bool], expected: float) -> None:
    head = torch.tensor([[1.0, 2.0], [50.0, 50.0]])

    assert summed_square_error(HIDDEN, head, targets([6.0, 13.0], real)).item() == pytest.approx(expected)


def test_pairs_are_unit_vectors_of_query_and_positive() -> None:
    (pair,) = embedded_pairs(HIDDEN, targets([0.0], [True]))

    torch.testing.assert_close(
        pair, torch.tensor([[3.0, 2.0], [3.0, 4.0]]) / torch.tensor([[13**0.5], [5.0]])
    )


def test_info_nce_compares_each_query_with_all_positives() -> None:
    x, y = [1.0, 0.0], [0.0, 1.0]
    pairs = torch.tensor([[x, x], [y, x], [x, y]])

    losses = info_nce(pairs, torch.tensor([True, True, False]), temperature=0.5)

    # Cosines with the two real positives: (1, 1) and (0, 0): each is half of its sum.
    torch.testing.assert_close(losses, torch.tensor([math.log(2), math.log(2), 0.0]))


def test_info_nce_knows_its_own_positive() -> None:
    pairs = torch.eye(2)[:, None, :].expand(2, 2, 2)

    losses = info_nce(pairs, torch.tensor([True, True]), temperature=0.5)

    torch.testing.assert_close(losses, torch.full((2,), math.log(1 + math.exp(-2))))
