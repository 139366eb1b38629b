"""Exponential backoff with jitter.

Programs call others that may be unavailable for minutes, and wait longer from try to try, up to a bound.
Jitter keeps thousands of clients from returning at the same moment. tenacity and stamina wrap the retried
call itself; here the waits belong to state machines and long-polls with ends of their own, so a number is
all that they need.
"""

from __future__ import annotations

from typing import Final

_LARGEST_EXPONENT: Final = 64  # beyond any bound; a float would overflow after a thousand failures


def backoff_seconds(
    failures: int,
    *,
    first: float,
    longest: float,
    factor: float = 2.0,
    jitter: tuple[float, float] = (1.0, 1.0),
    chance: float = 0.0,
) -> float:
    """Return the seconds to wait after so many `failures` in a row (from 1).

    Args:
        first: the wait after the first failure; each further one multiplies it by `factor`.
        longest: the upper bound of the wait, before jitter.
        jitter: the lowest and the highest factor on the wait.
        chance: a number in [0, 1) that chooses the factor within `jitter`.
    """
    low, high = jitter
    wait = min(longest, first * factor ** min(failures - 1, _LARGEST_EXPONENT))
    return wait * (low + (high - low) * chance)
