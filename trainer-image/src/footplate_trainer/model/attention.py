"""Multi-head, grouped-query and multi-query attention: self-attention, or cross-attention to an encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from footplate_planning.shape import ModelShape
from footplate_trainer.model.attention_mask import AttentionMask, offset_causal_mask
from footplate_trainer.model.dropout import HashDropout
from footplate_trainer.model.inputs import BlockInputs
from footplate_trainer.model.linear import Linear
from footplate_trainer.model.rotary import apply_rotary
from footplate_trainer.model.scaled_dot_product import attention_with_dropout, get_attention_function

Attend = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""(query, key, value, mask) -> attended; what `mask` is, its maker and its user agree on."""


class AttentionState(Protocol):
    """State that a layer stores of the tokens before those of a pass, in an order of its own."""

    filled: int
    """The place of a pass's first token, where `Inputs.positions` do not tell."""

    def mask(self, length: int, window: int | None) -> Any:
        """Build the mask of `length` new tokens over themselves and the stored ones; once for all layers."""
        ...

    def attend(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        """Store `key` and `value`, and attend to all stored tokens: [batch, heads, new, head_size]."""
        ...


class KeyValueCache:
    """Keys and values of one layer for the tokens so far, so that a pass computes only the new tokens.

    Fixed space for `length` positions, filled from the left, for all sequences alike.
    """

    def __init__(self, batch: int, heads: int, length: int, head_size: int, like: Tensor) -> None:
        room = (batch, heads, length, head_size)
        self.keys = torch.empty(room, dtype=like.dtype, device=like.device)
        self.values = torch.empty(room, dtype=like.dtype, device=like.device)
        self.filled = 0

    def mask(self, length: int, window: int | None) -> AttentionMask:
        """Build the causal mask, without keys `window` or more tokens back."""
        return offset_causal_mask(self.filled, length, window, self.keys.device)

    def attend(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> Tensor:
        """Append the new tokens, and attend to all tokens so far."""
        end = self.filled + key.shape[2]
        self.keys[:, :, self.filled : end] = key
        self.values[:, :, self.filled : end] = value
        self.filled = end
        return attend(query, self.keys[:, :, :end], self.values[:, :, :end], mask)


class MultiHeadAttention(nn.Module):
    """Attention whose query heads share key/value heads in equal groups.

    The number of heads is read off the projections' results: tensor parallelism leaves a rank some of the
    heads. `attend` may be replaced by a function that can access the rest of the sequence.
    """

    def __init__(self, shape: ModelShape, site: str) -> None:
        super().__init__()
        self.head_size = shape.head_size
        self.attend: Attend = get_attention_function(shape.attention_backend)
        query_size = shape.heads * shape.head_size
        key_value_size = shape.key_value_heads * shape.head_size
        self.query = Linear(shape.hidden, query_size, bias=shape.query_key_value_bias)
        self.key = Linear(shape.hidden, key_value_size, bias=shape.query_key_value_bias)
        self.value = Linear(shape.hidden, key_value_size, bias=shape.query_key_value_bias)
        self.output = Linear(query_size, shape.hidden, bias=shape.output_bias)
        self.dropout = HashDropout(shape.attention_dropout, site)

    def forward(
        self,
        x: Tensor,
        inputs: BlockInputs,
        cache: AttentionState | None = None,
        source: Tensor | None = None,
    ) -> Tensor:
        """Attend: x [batch, length, hidden] -> the same shape.

        With `cache`, x follows the tokens in the cache, and nothing is dropped. Keys and values are computed
        from `source` [batch, keys, hidden], if given, instead of x.
        """
        read = x if source is None else source
        query, key, value = self.query(x, inputs), self.key(read, inputs), self.value(read, inputs)
        query, key, value = self._heads(query), self._heads(key), self._heads(value)
        if inputs.rotary is not None:
            query, key = apply_rotary(query, *inputs.rotary), apply_rotary(key, *inputs.rotary)
        if cache is not None:
            attended = cache.attend(self.attend, query, key, value, inputs.mask)
        elif self.dropout.is_active:
            attended = attention_with_dropout(
                query, key, value, inputs.mask, self.dropout, inputs.dropout_seed
            )
        else:
            attended = self.attend(query, key, value, inputs.mask)
        batch, _, length, _ = attended.shape
        merged: Tensor = self.output(attended.transpose(1, 2).reshape(batch, length, -1), inputs)
        return merged

    def _heads(self, x: Tensor) -> Tensor:
        """Reshape [batch, length, heads * head_size] to [batch, heads, length, head_size]."""
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)
