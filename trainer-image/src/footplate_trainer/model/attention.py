"""Grouped-query attention that never looks ahead and, when told, never across documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from footplate_trainer.config import DecoderShape
from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.rotary import rotate


def document_mask(documents: Tensor) -> Tensor:
    """Who may look at whom: bool [batch, 1, length, length], True where allowed.

    `documents` [batch, length] numbers the document of each token; a token sees
    itself and earlier tokens of its own document.
    """
    length = documents.shape[1]
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()


Attend = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""(query, key, value, mask) -> attended; what `mask` is, maker and user agree between themselves."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """[batch, heads, length, head_size] of each; key and value may have fewer heads.

    Without `mask` (bool, broadcast to [batch, 1, length, keys]) attention is causal.
    """
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, enable_gqa=query.shape[1] != key.shape[1]
    )


class Attention(nn.Module):
    """Query heads share key/value heads in equal groups; rotary positions; no biases.

    `attend` may be replaced by one that knows where the rest of the sequence is.
    """

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.head_size = shape.head_size
        self.attend: Attend = attend
        query_size = shape.heads * shape.head_size
        key_value_size = shape.key_value_heads * shape.head_size
        self.query = nn.Linear(shape.hidden, query_size, bias=False)
        self.key = nn.Linear(shape.hidden, key_value_size, bias=False)
        self.value = nn.Linear(shape.hidden, key_value_size, bias=False)
        self.output = nn.Linear(query_size, shape.hidden, bias=False)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Any = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x [batch, length, hidden] -> the same; `rotary` tables cover the positions of x.

        `mask` is for `attend`. With `cache` x stands behind what the cache holds.
        """
        query = rotate(self._heads(self.query(x)), *rotary)
        key = rotate(self._heads(self.key(x)), *rotary)
        value = self._heads(self.value(x))
        if cache is not None:
            key, value = cache.extend(key, value)
        attended = self.attend(query, key, value, mask)
        batch, length, _ = x.shape
        merged: Tensor = self.output(attended.transpose(1, 2).reshape(batch, length, -1))
        return merged

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, length, heads * head_size] -> [batch, heads, length, head_size]."""
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)
