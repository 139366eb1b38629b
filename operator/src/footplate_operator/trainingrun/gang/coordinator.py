"""The coordinator pod: small, without GPU or user volumes, and cheap to replace.

Its replacement gets the next epoch, which is how agents tell the new one from a
stale one that comes back from behind a partition. Workers are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.policies.backoff import not_before


@dataclass(frozen=True)
class CoordinatorPlan:
    """`current` serves; where there is none, `epoch` is to be made, not before `due`."""

    current: PodView | None
    epoch: int
    due: datetime


def reachable(pods: Sequence[PodView]) -> PodView | None:
    """The newest of `pods` that has an address, to listen to."""
    return max((pod for pod in pods if pod.address), key=lambda pod: pod.epoch, default=None)


def plan(pods: Sequence[PodView], known: int, begun: bool, now: datetime) -> CoordinatorPlan:
    """Which coordinator should exist.

    Args:
        pods: the run's coordinator pods, any state.
        known: the highest epoch that the status knows.
        begun: the run is under way. When it is resumed, the coordinator from before
            the suspension has closed it and cannot open it again.
    """
    lowest = known if begun else known + 1
    serving = [pod for pod in pods if pod.live and pod.epoch >= lowest]
    current = max(serving, key=lambda pod: pod.epoch, default=None)
    if current is not None:
        return CoordinatorPlan(current, current.epoch, now)
    epoch = max([known, *(pod.epoch for pod in pods)]) + 1
    due = not_before(pods, now)
    return CoordinatorPlan(None, epoch, due)
