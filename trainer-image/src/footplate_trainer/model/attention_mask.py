"""Attention masks: causal, bidirectional, and within documents.

A mask costs memory in the square of the length, and SDPA's causal flag does without one: a mask is built once
for all blocks of a pass, and only where the flag does not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionMask:
    """The keys that queries may attend to; without `tensor` all, or no later ones where `causal`."""

    causal: bool = True
    # Broadcast to [batch, heads, length, keys]: bool, True where allowed, or what is added to the scores.
    tensor: Tensor | None = None
    scale: float | None = None  # of the scores; None: 1 / sqrt(head size)


def causal_mask(
    length: int, documents: Tensor | None, window: int | None, device: torch.device
) -> AttentionMask:
    """Build a mask without later tokens, other documents, and tokens `window` or more back.

    `documents` [batch, length] numbers the document of each token.
    """
    if window is not None and window >= length:
        window = None
    if documents is None and window is None:
        return AttentionMask()
    mask = causal_mask_tensor(0, length, window, device)
    return AttentionMask(tensor=mask if documents is None else mask & same_document(documents, documents))


def offset_causal_mask(start: int, length: int, window: int | None, device: torch.device) -> AttentionMask:
    """Build a causal mask of `length` tokens after `start` others, over the keys of all of them."""
    if start == 0:
        return causal_mask(length, None, window, device)
    end = start + length
    if length == 1 and (window is None or window >= end):
        return AttentionMask(causal=False)  # there is nothing later to hide
    return AttentionMask(tensor=causal_mask_tensor(start, end, window, device))


def causal_mask_tensor(start: int, end: int, window: int | None, device: torch.device) -> Tensor:
    """Build the causal mask of tokens start … end-1 over tokens 0 … end-1: bool [end - start, end].

    No token sees a later one, nor one that is `window` or more tokens back.
    """
    mask = torch.ones(end - start, end, dtype=torch.bool, device=device).tril(start)
    return mask if window is None else mask.triu(start + 1 - window)


def bidirectional_mask(documents: Tensor | None) -> AttentionMask:
    """Build a mask of all tokens in the same document."""
    return AttentionMask(
        causal=False, tensor=None if documents is None else same_document(documents, documents)
    )


def same_document(queries: Tensor, keys: Tensor) -> Tensor:
    """Compare document numbers [batch, length] and [batch, keys]: bool [batch, 1, length, keys]."""
    same: Tensor = queries[:, None, :, None] == keys[:, None, None, :]
    return same
