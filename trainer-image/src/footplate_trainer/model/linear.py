"""Linear layers, and their low-rank adapters (LoRA, Hu et al. 2021).

An adapter adds alpha / rank B A x to W x, where A has few rows and B few columns. The layer keeps its names
and its weight, which is frozen, like the rest of the network; only the adapters are trained. The output head
is never applied by itself, as a loss reads it row by row: its adapter makes hidden states and weight a little
wider instead (see network.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_planning.shape import AdapterShape, ModelShape
from footplate_trainer.model.dropout import HashDropout
from footplate_trainer.model.inputs import BlockInputs, Inputs
from footplate_trainer.model.tiles import Tiles


def apply_linear(x: Tensor, weight: Tensor, bias: Tensor | None, tiles: Tiles | None) -> Tensor:
    """Return W x + bias, computed in `tiles` if given."""
    if tiles is None:
        return functional.linear(x, weight, bias)
    return tiles.product(x, weight, bias)


SCORE: Final = "score"  # the head that gives a sequence its score


class LowRankAdapter(nn.Module):
    """Low-rank term that an adapter adds to a layer's result; 0 at first, as B is initialized to zeros."""

    def __init__(self, inputs: int, outputs: int, adapter: AdapterShape, site: str) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(adapter.rank, inputs))
        self.b = nn.Parameter(torch.empty(outputs, adapter.rank))
        self.scale = adapter.alpha / adapter.rank
        self.dropout = HashDropout(adapter.dropout, site)

    tiles: Tiles | None = None  # as of Linear

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Return the local parts of A [rank, inputs] and B [outputs, rank]."""
        return self.a, self.b

    def project_down(self, x: Tensor, inputs: BlockInputs | Inputs | None) -> Tensor:
        """Return alpha / rank A x: [batch, length, inputs] -> [batch, length, rank]."""
        if self.dropout.is_active:
            assert inputs is not None, "dropout needs step and samples"
            x = self.dropout(x, inputs.dropout_seed, inputs.positions)
        return apply_linear(x, self.matrices()[0], None, self.tiles) * self.scale

    def forward(self, x: Tensor, inputs: BlockInputs | Inputs | None) -> Tensor:
        """Apply both matrices: [batch, length, inputs] -> [batch, length, outputs]."""
        return apply_linear(self.project_down(x, inputs), self.matrices()[1], None, self.tiles)


class Linear(nn.Linear):
    """W x + bias, plus the result of an adapter if there is one."""

    adapter: LowRankAdapter | None
    tiles: Tiles | None = None  # in which products are computed; None: as torch likes

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.adapter = None

    def matrix(self) -> tuple[Tensor, Tensor | None]:
        """Return the local parts of W [outputs, inputs] and bias [outputs]."""
        return self.weight, self.bias

    def forward(self, x: Tensor, inputs: BlockInputs | Inputs | None = None) -> Tensor:
        """Apply the layer: [..., inputs] -> [..., outputs]."""
        return self.add_adapter(apply_linear(x, *self.matrix(), self.tiles), x, inputs)

    def add_adapter(self, product: Tensor, x: Tensor, inputs: BlockInputs | Inputs | None) -> Tensor:
        """Add the adapter's result to `product`, which this layer computed from x."""
        return product if self.adapter is None else product + self.adapter(x, inputs)


def add_adapters(network: nn.Module, shape: ModelShape) -> None:
    """Freeze `network` except a score head, and add adapters to the layers that `shape` names."""
    assert shape.adapter is not None
    network.requires_grad_(False)
    if shape.labels:  # it begins as chance has it: nothing stands there that an adapter could adapt
        network.get_submodule(SCORE).requires_grad_(True)
    for name, (inputs, outputs) in shape.adapted_layers().items():
        layer = network.get_submodule(name)
        assert isinstance(layer, Linear)
        layer.adapter = LowRankAdapter(inputs, outputs, shape.adapter, f"{name}.adapter")


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Let `model` compute without its adapters in the block."""
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


def is_adapter_parameter(parameter: str) -> bool:
    """Return whether `parameter` is the name of an adapter's matrix."""
    return ".adapter." in parameter


def make_output_require_grad(_: nn.Module, __: object, output: Tensor) -> Tensor:
    """Make the output of a frozen embedding require a gradient, as a forward hook.

    Gradients then flow through all blocks. A pipeline sends back the gradient of a stage's input, also where
    no earlier stage has an adapter; and the first rank whose gradient is not finite is found here.
    """
    return output.requires_grad_() if torch.is_grad_enabled() else output
