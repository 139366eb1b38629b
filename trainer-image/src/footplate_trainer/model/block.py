"""Transformer blocks: attention and a feed-forward layer, each with a norm and a residual connection."""

from __future__ import annotations

from torch import Tensor, nn

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import AttentionState, MultiHeadAttention
from footplate_trainer.model.dropout import HashDropout
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.inputs import BlockInputs
from footplate_trainer.model.norm import build_norm


class Block(nn.Module):
    """Pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: ModelShape, site: str) -> None:
        super().__init__()
        self.attention_norm = build_norm(shape)
        self.attention = MultiHeadAttention(shape, f"{site}.attention")
        self.attention_dropout = HashDropout(shape.hidden_dropout, f"{site}.attention_norm")
        self.feed_forward_norm = build_norm(shape)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_dropout = HashDropout(shape.hidden_dropout, f"{site}.feed_forward_norm")

    def forward(self, x: Tensor, inputs: BlockInputs, cache: AttentionState | None = None) -> Tensor:
        """Run the block: [batch, length, hidden] -> the same shape."""
        attended = self.attention(self.attention_norm(x), inputs, cache)
        x = x + self.attention_dropout(attended, inputs.dropout_seed, inputs.positions)
        forwarded = self.feed_forward(self.feed_forward_norm(x), inputs)
        out: Tensor = x + self.feed_forward_dropout(forwarded, inputs.dropout_seed, inputs.positions)
        return out


class PostNormBlock(Block):
    """Post-norm block, as in BERT: norm(x + attention(x)), then norm(x + feed_forward(x))."""

    def forward(self, x: Tensor, inputs: BlockInputs, cache: AttentionState | None = None) -> Tensor:
        """Run the block: [batch, length, hidden] -> the same shape."""
        attended = self.attention(x, inputs, cache)
        x = self.attention_norm(x + self.attention_dropout(attended, inputs.dropout_seed, inputs.positions))
        forwarded = self.feed_forward(x, inputs)
        out: Tensor = self.feed_forward_norm(
            x + self.feed_forward_dropout(forwarded, inputs.dropout_seed, inputs.positions)
        )
        return out


class CrossAttentionBlock(nn.Module):
    """Decoder block with cross-attention to the encoder's output between its two layers."""

    def __init__(self, shape: ModelShape, site: str) -> None:
        super().__init__()
        self.attention_norm = build_norm(shape)
        self.attention = MultiHeadAttention(shape, f"{site}.attention")
        self.attention_dropout = HashDropout(shape.hidden_dropout, f"{site}.attention_norm")
        self.cross_attention_norm = build_norm(shape)
        self.cross_attention = MultiHeadAttention(shape, f"{site}.cross_attention")
        self.cross_attention_dropout = HashDropout(shape.hidden_dropout, f"{site}.cross_attention_norm")
        self.feed_forward_norm = build_norm(shape)
        self.feed_forward = FeedForward(shape)
        self.feed_forward_dropout = HashDropout(shape.hidden_dropout, f"{site}.feed_forward_norm")

    def forward(self, x: Tensor, encoded: Tensor, inputs: BlockInputs, source_inputs: BlockInputs) -> Tensor:
        """Run the block: x [batch, length, hidden], encoded [batch, keys, hidden] -> the shape of x."""
        attended = self.attention(self.attention_norm(x), inputs)
        x = x + self.attention_dropout(attended, inputs.dropout_seed)
        crossed = self.cross_attention(self.cross_attention_norm(x), source_inputs, None, encoded)
        x = x + self.cross_attention_dropout(crossed, inputs.dropout_seed)
        forwarded = self.feed_forward(self.feed_forward_norm(x), inputs)
        out: Tensor = x + self.feed_forward_dropout(forwarded, inputs.dropout_seed)
        return out
