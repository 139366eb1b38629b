"""How long to wait before something that failed is tried again.

Each program asks another one for something that may be away for minutes, and
each waits longer from try to try, up to a bound. Jitter keeps thousands of
clients from returning at the same moment. tenacity and stamina wrap the retried
call itself; here the waits are part of state machines and long-polls with ends of
their own, so that a number is all that is needed.
"""

from __future__ import annotations

from typing import Final

_LARGEST_EXPONENT: Final = 64  # beyond any bound; a float would overflow after a thousand failures


def backoff(
    failures: int,
    *,
    first: float,
    longest: float,
    factor: float = 2.0,
    jitter: tuple[float, float] = (1.0, 1.0),
    chance: float = 0.0,
) -> float:
    """Seconds to wait after so many `failures` in a row (from 1).

    Args:
        first: the wait after the first failure; each further one multiplies it by `factor`.
        longest: the bound of that, before jitter.
        jitter: the wait is multiplied by a number within these two,
        chance: which in [0, 1) chooses.
    """
    low, high = jitter
    wait = min(longest, first * factor ** min(failures - 1, _LARGEST_EXPONENT))
    return wait * (low + (high - low) * chance)
