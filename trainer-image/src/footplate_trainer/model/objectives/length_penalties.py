"""Penalties on an answer's score for its length, or for a missing end."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_penalty(lengths: Tensor, longest: int, cache: int) -> Tensor:
    """Compute `overlong` (Yu et al. 2025, DAPO, eq. 13), a term of the score: fp64, as `lengths`, -1 to 0.

    0 up to `longest - cache` tokens, from there on (longest - cache - length) / cache, and -1 beyond
    `longest`.

    Raises:
        ValueError: `cache` is not within 1 and `longest`.
    """
    if not 1 <= cache <= longest:
        raise ValueError(f"cache is {cache}; with answers of up to {longest} tokens it is 1 to {longest}")
    return ((longest - cache - lengths.double()) / cache).clamp(-1, 0)


def subtract_missing_end_penalty(scores: Tensor, ended: Tensor, penalty: float) -> Tensor:
    """Subtract `missingEosPenalty` from the scores of answers without an end: as `scores`.

    TRL 1.10.0 subtracts it from the score as well (`missing_eos_penalty`); TRL 0.10 replaced the score with
    it. `ended` is bool: the answer's last token ends the text.
    """
    return torch.where(ended, scores, scores - penalty)
