"""Who may look at whom, and attention that obeys.

A mask costs memory in the square of the length, and SDPA's causal flag does
without one: a mask is built once for all blocks of a pass, and only where the
flag cannot say it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from footplate_contracts.v1alpha1.model import AttentionBackend
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


def attend_eagerly(query: Tensor, key: Tensor, value: Tensor, reach: Reach) -> Tensor:
    """The same, as a textbook has it: all scores, their softmax, and the mean of values that it weighs."""
    return _weights(query, key, reach) @ _for_each_query_head(value, query)


def attend_with_dropout(
    query: Tensor, key: Tensor, value: Tensor, reach: Reach, dropout: Dropout, chance: Chance | None
) -> Tensor:
    """The same with some attention weights dropped; builds them all, as no kernel takes our masks."""
    kept: Tensor = dropout(_weights(query, key, reach), chance)
    return kept @ _for_each_query_head(value, query)


def attend_of(backend: AttentionBackend) -> Callable[[Tensor, Tensor, Tensor, Reach], Tensor]:
    """What computes attention for `backend`, with nothing dropped."""
    return attend_eagerly if backend is AttentionBackend.EAGER else attend


def _weights(query: Tensor, key: Tensor, reach: Reach) -> Tensor:
    """[batch, heads, length, keys] in the dtype of `query`: rows sum to 1, or are 0 where nothing is seen."""
    key = _for_each_query_head(key, query)
    scores = query @ key.transpose(-2, -1) * (reach.scale or query.shape[-1] ** -0.5)
    mask = reach.mask
    if mask is None and reach.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    scores = scores + mask if mask.is_floating_point() else scores.masked_fill(~mask, -torch.inf)
    nothing = scores.isneginf().all(-1, keepdim=True)  # as padding behind a decoder's text
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), dim=-1, dtype=torch.float32)
    return weights.masked_fill(nothing, 0.0).to(query.dtype)


def _for_each_query_head(x: Tensor, query: Tensor) -> Tensor:
    """Keys or values, whose heads serve query heads in equal groups, repeated within the groups."""
    groups = query.shape[1] // x.shape[1]
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)


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
