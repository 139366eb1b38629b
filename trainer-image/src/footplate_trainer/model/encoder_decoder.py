"""T5: an encoder, and a decoder with cross-attention to it, as one chain of blocks (Raffel et al. 2019).

Both hidden states pass through the whole chain, so that it may be cut anywhere: first the encoder's blocks
update theirs, then the decoder's blocks update the other. Positions enter as a bias on attention's scores
that depends on distance; encoder and decoder each have one table for all of their blocks, and every stage
that has one of these blocks has the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention import AttentionState
from footplate_trainer.model.attention_mask import (
    AttentionMask,
    bidirectional_mask,
    causal_mask,
    same_document,
)
from footplate_trainer.model.block import Block, CrossAttentionBlock
from footplate_trainer.model.inputs import BlockInputs, Inputs, States
from footplate_trainer.model.network import TransformerNetwork
from footplate_trainer.model.norm import build_norm

UNSCALED = 1.0  # T5 leaves the root of the head size to initialisation


class EncoderDecoder(TransformerNetwork):
    """Network from tokens and the decoder's tokens so far to logits for each of the latter."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)
        for number in range(shape.blocks):
            build = Block if number < shape.layers else CrossAttentionBlock
            self.blocks[str(number)] = build(shape, f"blocks.{number}")
        self.encoder_bias: nn.Embedding | None = nn.Embedding(shape.relative_buckets, shape.heads)
        self.decoder_bias: nn.Embedding | None = nn.Embedding(shape.relative_buckets, shape.heads)
        self.encoder_norm: nn.Module | None = build_norm(shape)
        self.norm: nn.Module | None = build_norm(shape)
        self.attention_mask = self.encoder_mask

    def drop(self, beginning: bool, end: bool) -> None:
        """Delete what the remaining blocks, and the ends, do not need."""
        super().drop(beginning, end)
        held = {int(number) for number in self.blocks}
        if not any(number < self.shape.layers for number in held):
            self.encoder_bias = None
        if not any(number >= self.shape.layers for number in held):
            self.decoder_bias = None
        if self.shape.layers - 1 not in held:
            self.encoder_norm = None
        if end:
            self.norm = None

    def begin(self, inputs: Inputs, start: int = 0) -> States:
        """Embed the tokens of both, [batch, length, hidden] each."""
        assert inputs.decoder_tokens is not None, "the decoder needs its own tokens"
        decoder = replace(inputs, tokens=inputs.decoder_tokens)
        return (
            self.embedding_dropout(self.embed(inputs), inputs.dropout_seed),
            self.embedding_dropout(self.embed(decoder), inputs.dropout_seed),
        )

    def run(self, states: States, inputs: Inputs, caches: Sequence[AttentionState] | None = None) -> States:
        """Run the blocks: (encoder's states, decoder's states) -> the same shapes."""
        assert caches is None, "an encoder-decoder has no cache"
        encoded, x = states
        encoder_inputs = decoder_inputs = None
        if self.encoder_bias is not None:
            encoder_inputs = BlockInputs(self.attention_mask(inputs), dropout_seed=inputs.dropout_seed)
        if self.decoder_bias is not None:
            decoder_inputs = self._decoder_inputs(inputs)
        for number, block in self.blocks.items():
            if decoder_inputs is not None and int(number) >= self.shape.layers:
                x = block(x, encoded, *decoder_inputs)
            else:
                encoded = block(encoded, encoder_inputs)
            if int(number) == self.shape.layers - 1:
                assert self.encoder_norm is not None
                encoded = self.encoder_norm(encoded)
        return encoded, x

    def finish(self, states: States, inputs: Inputs) -> Tensor:
        """Apply the decoder's final norm, scaled down where the projection is the embedding."""
        assert self.norm is not None
        x: Tensor = self.norm(states[1])
        return (
            x * self.shape.hidden**-0.5 if self.shape.tied_embeddings else self.append_head_adapter(x, inputs)
        )

    def encoder_mask(self, inputs: Inputs) -> AttentionMask:
        """Build the encoder's attention mask, with the bias by distance."""
        assert self.encoder_bias is not None
        bias = self._bias(self.encoder_bias, inputs.tokens.shape[1], both_ways=True)
        return _biased(bidirectional_mask(inputs.documents).tensor, bias)

    def _decoder_inputs(self, inputs: Inputs) -> tuple[BlockInputs, BlockInputs]:
        """Build the block inputs of the decoder's self-attention, and of its cross-attention."""
        assert self.decoder_bias is not None and inputs.decoder_tokens is not None
        length = inputs.decoder_tokens.shape[1]
        bias = self._bias(self.decoder_bias, length, both_ways=False)
        back = causal_mask(length, inputs.decoder_documents, None, bias.device).tensor
        if back is None:
            back = torch.ones(length, length, dtype=torch.bool, device=bias.device).tril()
        across = None
        if inputs.documents is not None and inputs.decoder_documents is not None:
            across = same_document(inputs.decoder_documents, inputs.documents)
        to_encoder = AttentionMask(causal=False, tensor=across, scale=UNSCALED)
        return (
            BlockInputs(_biased(back, bias), dropout_seed=inputs.dropout_seed),
            BlockInputs(to_encoder, dropout_seed=inputs.dropout_seed),
        )

    def _bias(self, table: nn.Embedding, length: int, both_ways: bool) -> Tensor:
        """Return the table's bias on scores: [1, heads, length, length]."""
        places = torch.arange(length, device=self.device)
        distances = places[None, :] - places[:, None]
        shape = self.shape
        buckets = distance_buckets(distances, shape.relative_buckets, shape.relative_distance, both_ways)
        bias: Tensor = table(buckets)
        return bias.permute(2, 0, 1)[None]


def distance_buckets(distances: Tensor, buckets: int, farthest: int, both_ways: bool) -> Tensor:
    """Return the bias table's row for each distance (key's position minus query's), int64 as `distances`.

    Half of the rows are for one distance each, the rest for ever wider ranges up to `farthest`; `both_ways`
    splits the table between keys before and after.
    """
    after = torch.zeros_like(distances)
    if both_ways:
        buckets //= 2
        after = (distances > 0).long() * buckets
        distances = distances.abs()
    else:
        distances = (-distances).clamp(min=0)
    exact = buckets // 2
    share = torch.log(distances.clamp(min=1).float() / exact) / math.log(farthest / exact)
    wide = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
    return after + torch.where(distances < exact, distances, wide)


def _biased(mask: Tensor | None, bias: Tensor) -> AttentionMask:
    """Build a mask that adds `bias` to scores, and minus infinity where `mask` forbids."""
    added = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    return AttentionMask(causal=False, tensor=added, scale=UNSCALED)
