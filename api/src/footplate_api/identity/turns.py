"""How many ask Kubernetes at once: whoever sends it ever new tokens does not send them to its API server.

A review costs the API server more than a request costs its sender. Those who are known ask in a line of
their own, or strangers would keep them waiting.
"""

from __future__ import annotations

from typing import Final

from footplate_api.errors import TooManyTokens
from footplate_api.turns import Turns

AT_ONCE: Final = 32  # reviews in flight
WAITING: Final = 200  # each holds 33 KB meanwhile; of a fleet that nobody knows the others come again
SECONDS: Final = 5.0  # that one waits for its turn


def of_reviews(at_once: int = AT_ONCE, waiting: int = WAITING, seconds: float = SECONDS) -> Turns:
    """Turns of one line; who gets none hears TooManyTokens."""
    return Turns(at_once, waiting, seconds, _refusal)


def _refusal(waiting: int | None) -> TooManyTokens:
    if waiting is None:
        return TooManyTokens("Kubernetes is slow to review tokens; send this one later.")
    return TooManyTokens(f"{waiting} tokens wait to be reviewed already; send this one later.")
