"""Concurrency limits of Kubernetes' reviews: a flood of new tokens does not reach the API server.

A review costs the API server more than a request costs its sender. Known callers have a limit of their own,
or unknown ones would delay them.
"""

from __future__ import annotations

from typing import Final

from footplate_api.errors import TooManyTokens
from footplate_api.http.concurrency_limit import ConcurrencyLimit

AT_ONCE: Final = 32  # reviews in flight
WAITING: Final = 200  # each holds 33 KB meanwhile; of a fleet that nobody knows the others come again
SECONDS: Final = 5.0  # that one waits for its turn


def review_limit(
    at_once: int = AT_ONCE, waiting: int = WAITING, seconds: float = SECONDS
) -> ConcurrencyLimit:
    """Return one concurrency limit; refused requests raise TooManyTokens."""
    return ConcurrencyLimit(at_once, waiting, seconds, _refusal)


def _refusal(waiting: int | None) -> TooManyTokens:
    if waiting is None:
        return TooManyTokens("Kubernetes is slow to review tokens; send this one later.")
    return TooManyTokens(f"{waiting} tokens wait to be reviewed already; send this one later.")
