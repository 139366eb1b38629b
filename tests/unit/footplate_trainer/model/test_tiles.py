"""Rows in tiles: the same numbers, and the same bits whatever is beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from footplate_contracts.v1alpha1.model import Family
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.tile_check import NoInvariantTiles, find_invariant_tiles
from footplate_trainer.model.tiles import MOST_NUMBERS, Multiply, Tiles, multiply
from tests.support.shapes import shape_like

CPU = torch.device("cpu")
DTYPES = [pytest.param(dtype, id=str(dtype)) for dtype in (torch.float32, torch.bfloat16)]
WIDE = MOST_NUMBERS // 8 + 1  # wider than 8 rows may be


@pytest.mark.parametrize(
    ("rows", "width", "tiles"),
    [
        pytest.param(0, 1, [], id="nothing"),
        pytest.param(3, 1, [(3, 4)], id="a-rest"),
        pytest.param(16, 1, [(16, 16)], id="one-whole"),
        pytest.param(12, 1, [(12, 16)], id="padded-rather-than-cut"),
        pytest.param(11, 1, [(4, 4), (4, 4), (3, 4)], id="cut-rather-than-padded"),
        pytest.param(37, 1, [(16, 16), (16, 16), (4, 4), (1, 4)], id="many"),
        pytest.param(17, WIDE, [(4, 4)] * 4 + [(1, 4)], id="wide-rows"),
    ],
)
def test_rows_are_cut_into_tiles(rows: int, width: int, tiles: list[tuple[int, int]]) -> None:
    found = list(Tiles((16, 4)).cut(rows, width))

    assert [(some.stop - some.start, size) for some, size in found] == tiles
    assert [number for some, _ in found for number in range(some.start, some.stop)] == list(range(rows))


def test_a_product_in_tiles_is_the_product_with_its_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = [
        torch.randn(*size, dtype=torch.float64, generator=generator, requires_grad=True)
        for size in ((2, 9, 5), (3, 5), (3,))
    ]
    gradient = torch.randn(2, 9, 3, dtype=torch.float64, generator=generator)

    results = [
        (y := product(*numbers), *torch.autograd.grad(y, numbers, gradient))
        for product in (Tiles((4,)).product, functional.linear)
    ]

    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_function_of_rows_in_tiles_is_that_function_with_its_gradient() -> None:
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)

    ours, theirs = Tiles((8, 4)).rows(functional.silu, x), functional.silu(x)

    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", [Family.LLAMA, Family.GPT2])
def test_this_machine_has_tiles_in_which_rows_are_their_own(family: Family, dtype: torch.dtype) -> None:
    with torch.device("meta"):
        network = Decoder(shape_like(family))
    tiles = find_invariant_tiles(network, dtype, CPU).tiles
    generator = torch.Generator().manual_seed(3)
    x, weight = (torch.randn(rows, 32, generator=generator).to(dtype) for rows in (300, 96 + 32))
    whole = tiles.product(x, weight)

    for first, count in ((0, 1), (0, 2), (5, 7), (250, 50), (31, 129)):
        beside = torch.cat((x[first : first + count], x[:13]))
        assert torch.equal(tiles.product(beside, weight)[:count], whole[first : first + count])


def by_place(rows: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
    """As machines compute that add a tile's last rows up in another order."""
    multiply(rows, weight, bias, into)
    into[-1:] = (rows[-1:, :, None] * weight.t()).flip(1).sum(1)


def by_size(rows: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
    """As machines compute that take another kernel for few rows."""
    multiply(rows, weight, bias, into)
    if len(rows) < 32:
        into.copy_((rows[:, :, None] * weight.t()).flip(1).sum(1))


def by_neighbours(rows: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
    """As quantised products are, whose scale is that of the whole tile."""
    scale = rows.abs().amax()
    multiply(rows / scale, weight, bias, into)
    into.mul_(scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", [by_place, by_neighbours])
def test_a_machine_whose_rows_depend_on_others_is_refused(wrong: Multiply, dtype: torch.dtype) -> None:
    with torch.device("meta"):
        network = Decoder(shape_like(Family.LLAMA))

    with pytest.raises(NoInvariantTiles) as refused:
        find_invariant_tiles(network, dtype, CPU, multiply=wrong, sizes=(64, 4))

    assert "rollout.batchInvariant" in str(refused.value)
    assert "the product with a matrix of 32 x 32 in tiles of 4" in str(refused.value)
    assert f"{torch.get_num_threads()} thread" in str(refused.value)


def test_sizes_that_compute_other_bits_are_left_out() -> None:
    with torch.device("meta"):
        network = Decoder(shape_like(Family.LLAMA))

    checked = find_invariant_tiles(network, torch.float32, CPU, multiply=by_size, sizes=(64, 32, 16, 8, 4))

    assert checked.tiles.sizes in ([64, 32], [16, 8, 4])
