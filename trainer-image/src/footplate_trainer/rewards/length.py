"""How long an answer is."""

from __future__ import annotations


def reward(tokens: int, wanted: int | None, most: int) -> float:
    """The share of `most` tokens; or with `wanted`, below `most`: 0 up to it, then falling to -1 at `most`.

    The penalty is DAPO's (arXiv:2503.14476, section 3.4), whose cache is `most` - `wanted`.
    """
    if wanted is None:
        return tokens / most
    return min(0.0, max(-1.0, (wanted - tokens) / (most - wanted)))
