"""A substitute is made at once, unless its predecessors died young as well.

One lost pod deserves no waiting. A pod that dies in its first seconds again and
again would turn the operator into a fork bomb, so each further early death
doubles the wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.backoff import backoff
from footplate_operator.trainingrun.observed import PodView

YOUNG: Final = timedelta(seconds=20)
FIRST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 60.0
FORGOTTEN: Final = timedelta(minutes=10)


def not_before(pods: Iterable[PodView], now: datetime) -> datetime:
    """When the successor of `pods` may be made; `now` or earlier: at once.

    Early deaths of the last ten minutes count: 0 or 1 wait nothing, n wait
    2^(n-1) s after the last one, at most 60 s.
    """
    early = [
        pod.end for pod in pods if pod.ended and pod.end - pod.created < YOUNG and now - pod.end < FORGOTTEN
    ]
    if len(early) < 2:
        return now
    wait = backoff(len(early) - 1, first=FIRST_SECONDS, longest=LONGEST_SECONDS)
    return max(early) + timedelta(seconds=wait)
