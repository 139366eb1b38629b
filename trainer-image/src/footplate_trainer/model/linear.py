"""Linear layers, and the low-rank adapters beside them (LoRA, Hu et al. 2021).

An adapter adds alpha / rank B A x to W x, where A has few rows and B few
columns. The layer keeps its names and its weight, which is frozen, as all of
the network is; only the adapters move. The output head is never applied by
itself, as a loss takes it row by row: its adapter makes hidden states and
weight a little wider instead (see network.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_planning.shape import AdapterShape, ModelShape
from footplate_trainer.model.dropout import Dropout
from footplate_trainer.model.inputs import BlockInputs, Inputs
from footplate_trainer.model.tiles import Tiles


def product(x: Tensor, weight: Tensor, bias: Tensor | None, tiles: Tiles | None) -> Tensor:
    """W x + bias, in `tiles` where there are any."""
    if tiles is None:
        return functional.linear(x, weight, bias)
    return tiles.product(x, weight, bias)


SCORE: Final = "score"  # the head that gives a sequence its score


class LowRank(nn.Module):
    """What an adapter adds to a layer's result; nothing at first, as B begins as zeros."""

    def __init__(self, inputs: int, outputs: int, adapter: AdapterShape, site: str) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(adapter.rank, inputs))
        self.b = nn.Parameter(torch.empty(outputs, adapter.rank))
        self.scale = adapter.alpha / adapter.rank
        self.dropout = Dropout(adapter.dropout, site)

    tiles: Tiles | None = None  # as of Linear

    def matrices(self) -> tuple[Tensor, Tensor]:
        """A [rank, inputs] and B [outputs, rank], as far as they are here."""
        return self.a, self.b

    def narrowed(self, x: Tensor, inputs: BlockInputs | Inputs | None) -> Tensor:
        """alpha / rank A x: [batch, length, inputs] -> [batch, length, rank]."""
        if self.dropout.active:
            assert inputs is not None, "dropout needs to know step and samples"
            x = self.dropout(x, inputs.dropout_seed, inputs.positions)
        return product(x, self.matrices()[0], None, self.tiles) * self.scale

    def forward(self, x: Tensor, inputs: BlockInputs | Inputs | None) -> Tensor:
        """[batch, length, inputs] -> [batch, length, outputs]."""
        return product(self.narrowed(x, inputs), self.matrices()[1], None, self.tiles)


class Linear(nn.Linear):
    """W x + bias and, where there is an adapter, what it adds."""

    adapter: LowRank | None
    tiles: Tiles | None = None  # in which products are computed; None: as torch likes

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.adapter = None

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """W [outputs, inputs] and bias [outputs], as far as they are applied here."""
        return self.weight, self.bias

    def forward(self, x: Tensor, inputs: BlockInputs | Inputs | None = None) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return self.adapted(product(x, *self.matrix(), self.tiles), x, inputs)

    def adapted(self, product: Tensor, x: Tensor, inputs: BlockInputs | Inputs | None) -> Tensor:
        """`product`, which this layer makes of x, and the adapter's part."""
        return product if self.adapter is None else product + self.adapter(x, inputs)


def adapt(network: nn.Module, shape: ModelShape) -> None:
    """Freeze `network`, all but a head of scores, and give the layers that `shape` names adapters."""
    assert shape.adapter is not None
    network.requires_grad_(False)
    if shape.labels:  # it begins as chance has it: nothing stands there that an adapter could adapt
        network.get_submodule(SCORE).requires_grad_(True)
    for name, (inputs, outputs) in shape.adapted_layers().items():
        layer = network.get_submodule(name)
        assert isinstance(layer, Linear)
        layer.adapter = LowRank(inputs, outputs, shape.adapter, f"{name}.adapter")


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Until it ends, `model` computes with the weights that its adapters stand beside, and has no others."""
    adapted = [
        (layer, layer.adapter)
        for layer in model.modules()
        if isinstance(layer, Linear) and layer.adapter is not None
    ]
    for layer, _ in adapted:
        layer.adapter = None
    try:
        yield
    finally:
        for layer, adapter in adapted:
            layer.adapter = adapter


def is_adapters(parameter: str) -> bool:
    """Whether `parameter` is the name of an adapter's matrix."""
    return ".adapter." in parameter


def begin_gradient(_: nn.Module, __: object, output: Tensor) -> Tensor:
    """A forward hook of a frozen embedding: gradients flow through all blocks down to its result.

    A pipeline sends back what a stage's result has for a gradient, also where no
    earlier stage has an adapter; and the first rank whose gradient is not finite
    is found at this place.
    """
    return output.requires_grad_() if torch.is_grad_enabled() else output
