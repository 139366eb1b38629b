"""The decoder: embedding, pre-norm blocks, final norm, output head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from footplate_contracts.v1alpha1.model import PositionName
from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import AttentionState, KeyValueCache
from footplate_trainer.model.attention_mask import AttentionMask, causal_mask
from footplate_trainer.model.block import Block
from footplate_trainer.model.inputs import BlockInputs, Inputs, States
from footplate_trainer.model.network import TransformerNetwork, position_ids
from footplate_trainer.model.norm import build_norm
from footplate_trainer.model.rotary import rotary_frequencies, rotary_tables


class Decoder(TransformerNetwork):
    """Decoder from tokens to logits; no token sees a later one."""

    rotary_cosine: Tensor
    rotary_sine: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)
        self.blocks.update({str(number): Block(shape, f"blocks.{number}") for number in range(shape.layers)})
        self.norm: nn.Module | None = build_norm(shape)
        self.attention_mask = self.causal_mask
        self.reset_tables()

    def reset_tables(self, device: torch.device | None = None) -> None:
        """Compute the rotary tables, if there are any, on `device`, or where the parameters are."""
        shape = self.shape
        if shape.position is PositionName.ROPE:
            frequencies = rotary_frequencies(shape.head_size, shape.rope_theta, shape.rope_scaling)
            cosine, sine = rotary_tables(shape.context, frequencies, device or self.device)
            self.register_buffer("rotary_cosine", cosine, persistent=False)
            self.register_buffer("rotary_sine", sine, persistent=False)

    def drop(self, beginning: bool, end: bool) -> None:
        """Delete what only the first or only the last stage needs."""
        super().drop(beginning, end)
        if end:
            self.norm = None

    def begin(self, inputs: Inputs, start: int = 0) -> States:
        """Embed the tokens: ([batch, length, hidden],)."""
        return (self.embedding_dropout(self.embed(inputs, start), inputs.dropout_seed, inputs.positions),)

    def run(self, states: States, inputs: Inputs, caches: Sequence[AttentionState] | None = None) -> States:
        """Run the blocks: ([batch, length, hidden],) -> the same shape.

        With `caches` (one a block) the tokens follow those already in them.
        """
        (x,) = states
        block_inputs = self._block_inputs(inputs, caches[0] if caches else None)
        for index, block in enumerate(self.blocks.values()):
            x = block(x, block_inputs, caches[index] if caches else None)
        return (x,)

    def finish(self, states: States, inputs: Inputs) -> Tensor:
        """Apply the final norm."""
        assert self.norm is not None
        return self.append_head_adapter(self.norm(*states), inputs)

    def causal_mask(self, inputs: Inputs) -> AttentionMask:
        """Build the attention mask of whole sequences."""
        tokens = inputs.tokens
        return causal_mask(tokens.shape[1], inputs.documents, self.shape.sliding_window, tokens.device)

    def _block_inputs(self, inputs: Inputs, cache: AttentionState | None) -> BlockInputs:
        length = inputs.tokens.shape[1]
        if cache is None:
            start, mask = 0, self.attention_mask(inputs)
        else:
            start, mask = cache.filled, cache.mask(length, self.shape.sliding_window)
        return BlockInputs(mask, self._rotary(inputs, start, length), inputs.dropout_seed, inputs.positions)

    def _rotary(self, inputs: Inputs, start: int, length: int) -> tuple[Tensor, Tensor] | None:
        if self.shape.position is not PositionName.ROPE:
            return None
        if self.tiles is not None and inputs.documents is not None:
            # Distances are the same from any beginning, but bits are not.
            places = position_ids(inputs, start)
            return self.rotary_cosine[places][:, None], self.rotary_sine[places][:, None]
        where = slice(start, start + length) if inputs.positions is None else inputs.positions
        return self.rotary_cosine[where], self.rotary_sine[where]

    def new_caches(self, batch: int, length: int) -> list[KeyValueCache]:
        """Allocate empty caches with space for `length` tokens."""
        shape = self.shape
        like = next(self.parameters())
        return [
            KeyValueCache(batch, shape.key_value_heads, length, shape.head_size, like) for _ in self.blocks
        ]
