"""The encoder: BERT's post-norm blocks, and a head that predicts masked tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import AttentionState
from footplate_trainer.model.attention_mask import AttentionMask, bidirectional_mask
from footplate_trainer.model.block import PostNormBlock
from footplate_trainer.model.feed_forward import ACTIVATIONS
from footplate_trainer.model.inputs import BlockInputs, Inputs, States
from footplate_trainer.model.linear import Linear
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.norm import build_norm


class Encoder(TransformerNetwork):
    """Encoder from tokens to logits; every token sees its whole document (Devlin et al. 2018)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)
        self.token_types = nn.Embedding(shape.token_types, shape.hidden) if shape.token_types else None
        self.embedding_norm: nn.Module | None = build_norm(shape)
        self.blocks.update(
            {str(number): PostNormBlock(shape, f"blocks.{number}") for number in range(shape.layers)}
        )
        self.transform: Linear | None = Linear(shape.hidden, shape.hidden, bias=True)
        self.activation = ACTIVATIONS[shape.activation]
        self.norm: nn.Module | None = build_norm(shape)
        self.head_bias: nn.Parameter | None = nn.Parameter(torch.empty(shape.vocabulary))
        self.attention_mask = _whole_documents

    def drop(self, beginning: bool, end: bool) -> None:
        """Delete what only the first or only the last stage needs."""
        super().drop(beginning, end)
        if beginning:
            self.token_types = self.embedding_norm = None
        if end:
            self.transform = self.norm = self.head_bias = None

    def begin(self, inputs: Inputs, start: int = 0) -> States:
        """Embed the tokens: ([batch, length, hidden],)."""
        assert self.embedding_norm is not None
        x = self.embed(inputs, start)
        if self.token_types is not None:
            types = torch.zeros_like(inputs.tokens)  # no data of ours has more than one
            x = x + self.token_types(self.slice_sequence_shard(types, x))
        return (self.embedding_dropout(self.embedding_norm(x), inputs.dropout_seed, inputs.positions),)

    def run(self, states: States, inputs: Inputs, caches: Sequence[AttentionState] | None = None) -> States:
        """Run the blocks: ([batch, length, hidden],) -> the same shape."""
        assert caches is None, "a bidirectional encoder has no cache"
        (x,) = states
        block_inputs = BlockInputs(
            self.attention_mask(inputs), dropout_seed=inputs.dropout_seed, positions=inputs.positions
        )
        for block in self.blocks.values():
            x = block(x, block_inputs)
        return (x,)

    def finish(self, states: States, inputs: Inputs) -> Tensor:
        """Apply a dense layer with norm, and append a column of ones.

        `head_weight` multiplies the ones by the bias.
        """
        assert self.transform is not None and self.norm is not None
        x = self.append_head_adapter(self.norm(self.activation(self.transform(*states, inputs))), inputs)
        return torch.cat((x, x.new_ones(*x.shape[:-1], 1)), dim=-1)

    @property
    def head_weight(self) -> Tensor:
        """The output projection with its bias as one more column: [vocabulary, hidden + 1]."""
        assert self.head_bias is not None
        return torch.cat((super().head_weight, self.head_bias[:, None]), dim=1)


def _whole_documents(inputs: Inputs) -> AttentionMask:
    """Build the attention mask of whole sequences."""
    return bidirectional_mask(inputs.documents)
