"""Attention that obeys a mask: torch's fused kernels, or step by step as a textbook has it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from footplate_contracts.v1alpha1.model import AttentionBackend
from footplate_trainer.model.attention_mask import AttentionMask
from footplate_trainer.model.dropout import Dropout, DropoutSeed


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask) -> Tensor:
    """[batch, heads, length, head_size] of each -> the same; fewer key/value heads serve in equal groups."""
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask.tensor,
        is_causal=mask.causal and mask.tensor is None,
        scale=mask.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def eager_attention(query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask) -> Tensor:
    """The same, as a textbook has it: all scores, their softmax, and the mean of values that it weighs."""
    return _weights(query, key, mask) @ _for_each_query_head(value, query)


def attention_with_dropout(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: AttentionMask,
    dropout: Dropout,
    dropout_seed: DropoutSeed | None,
) -> Tensor:
    """The same with some attention weights dropped; builds them all, as no kernel takes our masks."""
    kept: Tensor = dropout(_weights(query, key, mask), dropout_seed)
    return kept @ _for_each_query_head(value, query)


def attention_of(backend: AttentionBackend) -> Callable[[Tensor, Tensor, Tensor, AttentionMask], Tensor]:
    """What computes attention for `backend`, with nothing dropped."""
    return eager_attention if backend is AttentionBackend.EAGER else fused_attention


def _weights(query: Tensor, key: Tensor, mask: AttentionMask) -> Tensor:
    """[batch, heads, length, keys] in the dtype of `query`: rows sum to 1, or are 0 where nothing is seen."""
    key = _for_each_query_head(key, query)
    scores = query @ key.transpose(-2, -1) * (mask.scale or query.shape[-1] ** -0.5)
    added = mask.tensor
    if added is None and mask.causal:
        added = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if added is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    scores = scores + added if added.is_floating_point() else scores.masked_fill(~added, -torch.inf)
    nothing = scores.isneginf().all(-1, keepdim=True)  # as padding behind a decoder's text
    weights = torch.softmax(scores.masked_fill(nothing, 0.0), dim=-1, dtype=torch.float32)
    return weights.masked_fill(nothing, 0.0).to(query.dtype)


def _for_each_query_head(x: Tensor, query: Tensor) -> Tensor:
    """Keys or values, whose heads serve query heads in equal groups, repeated within the groups."""
    groups = query.shape[1] // x.shape[1]
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)
