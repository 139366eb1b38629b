"""Initial weights belong to a name and a row, not to a rank."""

from __future__ import annotations

import pytest
import torch

from footplate_trainer.model.initialize import ROWS_PER_BLOCK, initialize_rows, normal_rows


@pytest.mark.parametrize(
    ("first", "rows"),
    [
        pytest.param(0, 10, id="start"),
        pytest.param(60, 10, id="over-a-block"),
        pytest.param(ROWS_PER_BLOCK, ROWS_PER_BLOCK, id="one-block"),
        pytest.param(199, 1, id="last-row"),
        pytest.param(200, 0, id="no-row"),
    ],
)
def test_a_shard_holds_the_rows_of_the_whole(first: int, rows: int) -> None:
    whole = normal_rows(1, "weight", 0, 200, 8, 0.02)

    assert torch.equal(normal_rows(1, "weight", first, rows, 8, 0.02), whole[first : first + rows])


def test_names_and_seeds_draw_other_numbers() -> None:
    one = normal_rows(1, "a", 0, 4, 4, 1.0)

    assert not torch.equal(one, normal_rows(1, "b", 0, 4, 4, 1.0))
    assert not torch.equal(one, normal_rows(2, "a", 0, 4, 4, 1.0))


def test_matrices_are_normal_scales_one_and_biases_zero() -> None:
    matrix, vector, bias = torch.empty(400, 400), torch.empty(7), torch.empty(7)
    initialize_rows(matrix, "m", 0, seed=0, standard_deviation=0.02)
    initialize_rows(vector, "v", 0, seed=0, standard_deviation=0.02)
    initialize_rows(bias, "v.bias", 0, seed=0, standard_deviation=0.02)

    assert matrix.mean().item() == pytest.approx(0, abs=2e-4)
    assert matrix.std().item() == pytest.approx(0.02, rel=0.01)
    assert vector.tolist() == [1.0] * 7
    assert bias.tolist() == [0.0] * 7
