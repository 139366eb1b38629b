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

from footplate_trainer.model.dropout import Chance, Dropout


@dataclass(frozen=True)
class Reach:
    """What queries may look at; without `mask` all, or nothing later where `causal`."""

    causal: bool = True
    # Broadcast to [batch, heads, length, keys]: bool, True where allowed, or what is added to the scores.
    mask: Tensor | None = None
    scale: float | None = None  # of the scores; None: 1 / sqrt(head size)


def attend(query: Tensor, key: Tensor, value: Tensor, reach: Reach) -> Tensor:
    """[batch, heads, length, head_size] of each -> the same; fewer key/value heads serve in equal groups."""
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=reach.mask,
        is_causal=reach.causal and reach.mask is None,
        scale=reach.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def attend_with_dropout(
    query: Tensor, key: Tensor, value: Tensor, reach: Reach, dropout: Dropout, chance: Chance | None
) -> Tensor:
    """The same with some attention weights dropped; builds them all, as no kernel takes our masks."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-2, -1) * (reach.scale or query.shape[-1] ** -0.5)
    mask = reach.mask
    if mask is None and reach.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    kept: Tensor = dropout(weights, chance)
    return kept @ value


def looking_back(length: int, documents: Tensor | None, window: int | None, device: torch.device) -> Reach:
    """Nothing later, nothing of other documents, nothing `window` or more tokens back.

    `documents` [batch, length] numbers the document of each token.
    """
    if window is not None and window >= length:
        window = None
    if documents is None and window is None:
        return Reach()
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    if window is not None:
        mask = mask.triu(1 - window)
    return Reach(mask=mask if documents is None else mask & same_document(documents, documents))


def looking_around(documents: Tensor | None) -> Reach:
    """Everything in the same document."""
    return Reach(causal=False, mask=None if documents is None else same_document(documents, documents))


def same_document(queries: Tensor, keys: Tensor) -> Tensor:
    """[batch, length] and [batch, keys] document numbers -> bool [batch, 1, length, keys]."""
    same: Tensor = queries[:, None, :, None] == keys[:, None, None, :]
    return same
