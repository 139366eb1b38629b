"""SwiGLU feed-forward layer (Shazeer 2020): silu(gate) * up, then down."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from footplate_trainer.shape import ModelShape


class FeedForward(nn.Module):
    """Three matrices, no biases."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., hidden] -> [..., hidden]."""
        activated: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return activated
