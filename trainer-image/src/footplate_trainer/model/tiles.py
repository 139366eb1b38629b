"""Products and row-wise functions whose bits do not depend on the number of rows.

A library chooses its kernel by the shape of a product, and the last columns of a row are computed by other
instructions than the first. So the same row has other bits among other numbers of rows. Here rows are
computed in tiles of a few fixed sizes, the last padded with zeros. That a row has the same bits at each
position of a tile, whatever its neighbours, and in tiles of each size, is a property of a machine and its
libraries: `tile_check` tests it, and returns the sizes that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

SIZES: Final = (1024, 512, 256, 128, 64, 32, 16, 8, 4)
"""Rows of a tile, large ones first: they save calls, small ones save padding."""

MOST_NUMBERS: Final = 2**22  # in a tile, unless it is the smallest: padding a wide one costs much
_FULL_ENOUGH: Final = 0.75  # of a tile's rows, to be padded instead of cut smaller

Multiply = Callable[[Tensor, Tensor, Tensor | None, Tensor], object]
"""rows [t, inputs], weight [outputs, inputs], bias [outputs] -> into [t, outputs], the last argument."""


def multiply(rows: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
    """Compute rows @ weight.T + bias with torch's own product."""
    if bias is None:
        torch.mm(rows, weight.t(), out=into)
    else:
        torch.addmm(bias, rows, weight.t(), out=into)


@dataclass(frozen=True)
class Tiles:
    """Tile sizes, descending, and the function that multiplies a tile."""

    sizes: Sequence[int]
    multiply: Multiply = multiply

    def cut(self, rows: int, width: int) -> Sequence[tuple[slice, int]]:
        """Cut `rows` of `width` columns into slices, each with the size of the tile that computes it."""
        return _cut(rows, tuple(self.sizes_for_width(width)))

    def padded_row_count(self, rows: int, width: int) -> int:
        """Return the rows of all tiles that `rows` of `width` columns are cut into."""
        return sum(size for _, size in self.cut(rows, width))

    def sizes_for_width(self, width: int) -> list[int]:
        """List the sizes for rows of `width` numbers."""
        return [size for size in self.sizes if size * width <= MOST_NUMBERS or size == self.sizes[-1]]

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x [..., inputs] times `weight` [outputs, inputs], plus `bias` [outputs].

        Gradients are computed without tiles.
        """
        if not torch.is_grad_enabled():
            return self._product(x, weight, bias)
        product: Tensor = _Product.apply(x, weight, bias, self)
        return product

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        into = x.new_empty(*x.shape[:-1], len(weight))
        self.product_into(x.reshape(-1, x.shape[-1]), weight, bias, into.view(-1, len(weight)))
        return into

    @torch.no_grad()
    def product_into(self, x: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
        """Compute `product` of x [rows, inputs] into [rows, outputs], without gradients."""
        for rows, size in self.cut(x.shape[0], max(weight.shape)):
            count = rows.stop - rows.start
            if count == size:
                whole = count == x.shape[0]
                self.multiply(x if whole else x[rows], weight, bias, into if whole else into[rows])
                continue
            padded = into.new_empty(size, into.shape[1])
            self.multiply(_padded(x[rows], size), weight, bias, padded)
            into[rows] = padded[:count]

    def rows(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Apply `function` to each row of x [..., columns], a tile at a time; autograd passes through."""
        flat = x.reshape(-1, x.shape[-1])
        parts = []
        for rows, size in self.cut(*flat.shape):
            tile, count = flat[rows], rows.stop - rows.start
            parts.append(function(tile) if count == size else function(_padded(tile, size))[:count])
        if not parts:
            return function(x)
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        return found.view(*x.shape[:-1], found.shape[-1])


def _padded(tile: Tensor, size: int) -> Tensor:
    return functional.pad(tile, (0, 0, 0, size - tile.shape[0]))


@lru_cache(maxsize=4096)
def _cut(rows: int, sizes: tuple[int, ...]) -> Sequence[tuple[slice, int]]:
    found, first = [], 0
    for size in sizes:
        least = 1 if size == sizes[-1] else _FULL_ENOUGH * size
        while rows - first >= least:
            found.append((slice(first, min(first + size, rows)), size))
            first += size
    return found


class _Product(Function):
    """Forward in tiles. Gradients need not have the same bits, so they are computed from all rows at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, tiles: Tiles) -> Tensor:
        ctx.save_for_backward(x, weight)
        return tiles._product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            gradient @ weight if of_x else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if of_weight else None,
            rows.sum(0) if of_bias else None,
            None,
        )
