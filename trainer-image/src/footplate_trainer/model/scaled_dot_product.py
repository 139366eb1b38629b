"""Scaled dot-product attention with a mask: torch's fused kernels, or an eager implementation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from footplate_contracts.v1alpha1.model import AttentionBackend
from footplate_trainer.model.attention_mask import AttentionMask
from footplate_trainer.model.dropout import DropoutSeed, HashDropout


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: AttentionMask) -> Tensor:
    """Attend: [batch, heads, length, head_size] of each -> the same; key/value heads may be fewer.

    Query heads then share key/value heads in equal groups.
    """
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
    """Attend as `fused_attention` does, but step by step: scores, softmax, weighted mean of values."""
    return _weights(query, key, mask) @ _for_each_query_head(value, query)


def attention_with_dropout(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: AttentionMask,
    dropout: HashDropout,
    dropout_seed: DropoutSeed | None,
) -> Tensor:
    """Attend with some weights dropped; computes them all, as no fused kernel accepts our dropout masks."""
    kept: Tensor = dropout(_weights(query, key, mask), dropout_seed)
    return kept @ _for_each_query_head(value, query)


def get_attention_function(
    backend: AttentionBackend,
) -> Callable[[Tensor, Tensor, Tensor, AttentionMask], Tensor]:
    """Return the attention function of `backend`, without dropout."""
    return eager_attention if backend is AttentionBackend.EAGER else fused_attention


def _weights(query: Tensor, key: Tensor, mask: AttentionMask) -> Tensor:
    """Return weights [batch, heads, length, keys] in the dtype of `query`.

    Rows sum to 1, or are 0 where all keys are masked.
    """
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
    """Repeat keys or values, whose heads query heads share in equal groups, within the groups."""
    groups = query.shape[1] // x.shape[1]
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)
