"""Who may look at whom, and attention that obeys.

A mask costs memory in the square of the length, and SDPA's causal flag does
without one: a mask is built once for all blocks of a pass, and only where the
flag cannot say it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Reach:
    """What queries may look at: `mask`, True where allowed; without it all, or nothing later (`causal`)."""

    causal: bool = True
    mask: Tensor | None = None  # bool, broadcast to [batch, heads, length, keys]


def attend(query: Tensor, key: Tensor, value: Tensor, reach: Reach) -> Tensor:
    """[batch, heads, length, head_size] of each -> the same; fewer key/value heads serve in equal groups."""
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=reach.mask,
        is_causal=reach.causal and reach.mask is None,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def document_mask(documents: Tensor) -> Tensor:
    """Causal attention within documents: bool [batch, 1, length, length], True where allowed.

    `documents` [batch, length] numbers the document of each token; a token sees
    itself and earlier tokens of its own document.
    """
    length = documents.shape[1]
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
