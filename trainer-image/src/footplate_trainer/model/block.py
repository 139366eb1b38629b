"""One layer of a chain: attention and a feed-forward layer, each with a norm and a way around it."""

from __future__ import annotations

from torch import Tensor, nn

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import Attention
from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.dropout import Dropout
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.inputs import Shared
from footplate_trainer.model.norm import norm_of


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the norm comes first."""

    def __init__(self, shape: ModelShape, site: str) -> None:
        super().__init__()
        self.attention_norm = norm_of(shape)
        self.attention = Attention(shape, f"{site}.attention")
        self.attention_dropout = Dropout(shape.hidden_dropout, f"{site}.attention_norm")
        self.feed_forward_norm = norm_of(shape)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_dropout = Dropout(shape.hidden_dropout, f"{site}.feed_forward_norm")

    def forward(self, x: Tensor, shared: Shared, cache: LayerCache | None = None) -> Tensor:
        """[batch, length, hidden] -> the same."""
        attended = self.attention(self.attention_norm(x), shared, cache)
        x = x + self.attention_dropout(attended, shared.chance, shared.positions)
        forwarded = self.feed_forward(self.feed_forward_norm(x), shared)
        out: Tensor = x + self.feed_forward_dropout(forwarded, shared.chance, shared.positions)
        return out


class NormLastBlock(Block):
    """norm(x + attention(x)), then norm(x + feed_forward(x)), as BERT has it."""

    def forward(self, x: Tensor, shared: Shared, cache: LayerCache | None = None) -> Tensor:
        """[batch, length, hidden] -> the same."""
        attended = self.attention(x, shared, cache)
        x = self.attention_norm(x + self.attention_dropout(attended, shared.chance, shared.positions))
        forwarded = self.feed_forward(x, shared)
        out: Tensor = self.feed_forward_norm(
            x + self.feed_forward_dropout(forwarded, shared.chance, shared.positions)
        )
        return out


class CrossBlock(nn.Module):
    """A decoder's layer behind an encoder: between its two parts it looks at what the encoder made."""

    def __init__(self, shape: ModelShape, site: str) -> None:
        super().__init__()
        self.attention_norm = norm_of(shape)
        self.attention = Attention(shape, f"{site}.attention")
        self.attention_dropout = Dropout(shape.hidden_dropout, f"{site}.attention_norm")
        self.cross_attention_norm = norm_of(shape)
        self.cross_attention = Attention(shape, f"{site}.cross_attention")
        self.cross_attention_dropout = Dropout(shape.hidden_dropout, f"{site}.cross_attention_norm")
        self.feed_forward_norm = norm_of(shape)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_dropout = Dropout(shape.hidden_dropout, f"{site}.feed_forward_norm")

    def forward(self, x: Tensor, encoded: Tensor, shared: Shared, across: Shared) -> Tensor:
        """x [batch, length, hidden], encoded [batch, source length, hidden] -> as x."""
        attended = self.attention(self.attention_norm(x), shared)
        x = x + self.attention_dropout(attended, shared.chance)
        crossed = self.cross_attention(self.cross_attention_norm(x), across, None, encoded)
        x = x + self.cross_attention_dropout(crossed, shared.chance)
        forwarded = self.feed_forward(self.feed_forward_norm(x), shared)
        out: Tensor = x + self.feed_forward_dropout(forwarded, shared.chance)
        return out
