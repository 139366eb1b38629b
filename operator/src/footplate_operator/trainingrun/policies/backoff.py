"""Backoff between substitutes of a slot: the first is created at once, later ones after early deaths wait.

One lost pod deserves no waiting. A pod that dies in its first seconds again and
again would turn the operator into a fork bomb, so each further early death
doubles the wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from footplate_operator.trainingrun.observation import PodView

YOUNG: Final = timedelta(seconds=20)
FORGOTTEN: Final = timedelta(minutes=10)
# Seconds after so many early deaths: each further one doubles them, up to a minute.
WAITS: Final = (0.0, 0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


def not_before(pods: Iterable[PodView], now: datetime) -> datetime:
    """Return when the successor of `pods` may be created, from the last early death of the last ten minutes.

    `now` or earlier: at once.
    """
    early = [pod.end for pod in pods if pod.ended and _young(pod) and now - pod.end < FORGOTTEN]
    wait = WAITS[min(len(early), len(WAITS) - 1)]
    return max(early) + timedelta(seconds=wait) if wait else now


def _young(pod: PodView) -> bool:
    """Return whether a pod died young, or never started; its lifetime is by one clock, and so right."""
    return pod.lived is None or timedelta(seconds=pod.lived) < YOUNG
