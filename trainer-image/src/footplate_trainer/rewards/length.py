"""Reward by the length of an answer."""

from __future__ import annotations


def reward(tokens: int, wanted: int | None, most: int) -> float:
    """Return the share of `most` tokens; with `wanted`, below `most`, a penalty for a longer answer.

    The penalty is 0 up to `wanted`, then falls to -1 at `most`. It is DAPO's (arXiv:2503.14476, section 3.4),
    whose cache is `most` - `wanted`.
    """
    if wanted is None:
        return tokens / most
    return min(0.0, max(-1.0, (wanted - tokens) / (most - wanted)))
