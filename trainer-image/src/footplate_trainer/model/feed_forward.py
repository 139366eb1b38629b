"""Feed-forward layers: down(activation(up)), or with a gate, down(activation(gate) * up) (Shazeer 2020)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

from footplate_contracts.v1alpha1.model import Activation
from footplate_planning.shape import ModelShape
from footplate_trainer.model.inputs import BlockInputs
from footplate_trainer.model.linear import Linear

tanh_gelu = partial(functional.gelu, approximate="tanh")
ACTIVATIONS: Final[dict[Activation, Callable[[Tensor], Tensor]]] = {
    Activation.SWIGLU: functional.silu,
    Activation.GEGLU: tanh_gelu,
    Activation.GELU: functional.gelu,
    Activation.GELU_TANH: tanh_gelu,
    Activation.RELU: functional.relu,
}


class FeedForward(nn.Module):
    """Feed-forward layer of two matrices, or three with a gate."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[shape.activation]
        bias = shape.feed_forward_bias
        self.gate = Linear(shape.hidden, shape.feed_forward, bias=bias) if shape.is_gated else None
        self.up = Linear(shape.hidden, shape.feed_forward, bias=bias)
        self.down = Linear(shape.feed_forward, shape.hidden, bias=bias)

    def forward(self, x: Tensor, inputs: BlockInputs | None = None) -> Tensor:
        """Run the layer: [..., hidden] -> [..., hidden]."""
        up = self.up(x, inputs)
        inner = self.activation(up) if self.gate is None else self.activation(self.gate(x, inputs)) * up
        down: Tensor = self.down(inner, inputs)
        return down
