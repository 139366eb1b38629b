"""What an answer's score loses because it is long, or because it does not end."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_penalty(lengths: Tensor, longest: int, cache: int) -> Tensor:
    """`overlong` (Yu et al. 2025, DAPO, eq. 13), to be added to the score: fp64, as `lengths`, -1 to 0.

    0 up to `longest - cache` tokens, from there on (longest - cache - length) / cache, and -1 beyond
    `longest`.

    Raises:
        ValueError: `cache` is not within 1 and `longest`.
    """
    if not 1 <= cache <= longest:
        raise ValueError(f"cache is {cache}; with answers of up to {longest} tokens it is 1 to {longest}")
    return ((longest - cache - lengths.double()) / cache).clamp(-1, 0)


def missing_end(scores: Tensor, ended: Tensor, penalty: float) -> Tensor:
    """`missingEndPenalty`: the scores, less `penalty` where an answer has no end: as `scores`.

    It is subtracted from the score, as in TRL 1.10.0 (`missing_eos_penalty`); TRL 0.10 put its penalty in the
    score's place. `ended` is bool, whether the answer's last token ends text.
    """
    return torch.where(ended, scores, scores - penalty)
