"""Which coordinator serves, and when another one is made.

It is small, without GPU or user volumes, and cheap to replace. Its
replacement gets the next epoch, which is how agents tell the new one from a
stale one that comes back from behind a partition. Workers are not touched: they train on, and the
new one adopts what they run. So one that does not answer need not be dead to be replaced.

One whose node is about to end serves until its successor has started, which may be never, for want of room:
without a coordinator no checkpoint is committed. Workers that leave the same node save first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from footplate_contracts.names import Phase
from footplate_contracts.reports import CoordinatorState
from footplate_operator.trainingrun.gang.losses import MUTE_SECONDS, STUCK_SECONDS, UNACCEPTED_SECONDS
from footplate_operator.trainingrun.gang.moves import SETTLE_SECONDS
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.policies.backoff import not_before

# Longer than a poll that fails and the next one: it stands still, is cut off, or its node is gone.
SILENT_SECONDS: Final = 8.0


@dataclass(frozen=True)
class CoordinatorPlan:
    """`current` serves; where one is `wanted`, `epoch` is to be made, not before `due`."""

    current: PodView | None
    epoch: int
    due: datetime
    left: tuple[PodView, ...] = ()  # those of lower epochs that have not ended
    wanted: bool = False

    def running_for(self, now: datetime) -> float:
        """Seconds for which the one that serves has run."""
        return self.current.running_for(now) if self.current is not None else 0.0

    @property
    def avoided(self) -> frozenset[str]:
        """Nodes where earlier ones are, which may be why they do not answer."""
        return frozenset(pod.node for pod in self.left if pod.node)


def plan_coordinator(
    pods: Sequence[PodView],
    known: int,
    begun: bool,
    silence: float,
    now: datetime,
    taken: int = 0,
    held: bool = False,
    deaf: int = 0,
) -> CoordinatorPlan:
    """Which coordinator should exist.

    Args:
        pods: the run's coordinator pods, any state.
        known: the highest epoch that the status knows.
        begun: the run is under way. When it is resumed, the coordinator from before
            the suspension has closed it and cannot open it again.
        silence: seconds for which the one that is listened to has not answered.
        taken: the highest epoch of a pod that a deleted run of the same name has left.
        held: it is needed where it is, though its node is about to end.
        deaf: the epoch of one that hears none of the workers; 0 for none.
    """
    lowest = known if begun else known + 1
    serving = [pod for pod in pods if pod.live and pod.epoch >= lowest]
    current = max(serving, key=lambda pod: pod.epoch, default=None)
    follows = current is not None and not _given_up(current, silence, now, deaf)
    epoch = max([known, taken, *(pod.epoch for pod in pods)]) + 1
    before = _handing_over(pods, current, silence, now, deaf) if begun else None
    if before is not None:
        due = now if follows else not_before(pods, now)
        return CoordinatorPlan(before, before.epoch if follows else epoch, due, wanted=not follows)
    if current is not None and follows:
        left = tuple(pod for pod in pods if not pod.ended and pod.epoch < current.epoch)
        moves = current.started and current.noticed_for(now) >= SETTLE_SECONDS and not held
        return CoordinatorPlan(current, epoch if moves else current.epoch, now, left, wanted=moves)
    left = tuple(pod for pod in pods if not pod.ended)
    return CoordinatorPlan(None, epoch, not_before(pods, now), left, wanted=True)


def said_now(state: CoordinatorState, serving: CoordinatorPlan, phase: Phase | None) -> CoordinatorState:
    """Only the coordinator that serves now is heard; a resumed run has none yet."""
    if serving.current is None:
        return CoordinatorState.silent() if phase is Phase.SUSPENDED else state
    return state if state.epoch == serving.current.epoch else CoordinatorState.silent()


def _handing_over(
    pods: Sequence[PodView], successor: PodView | None, silence: float, now: datetime, deaf: int
) -> PodView | None:
    """The one that has to leave its node and serves on, as its `successor` has not started."""
    if successor is not None and successor.started:
        return None
    below = successor.epoch if successor is not None else float("inf")
    leaving = [pod for pod in pods if pod.live and pod.started and pod.notice and pod.epoch < below]
    newest = max(leaving, key=lambda pod: pod.epoch, default=None)
    return newest if newest is not None and not _given_up(newest, silence, now, deaf) else None


def _given_up(current: PodView, silence: float, now: datetime, deaf: int) -> bool:
    """Whether another one should take over from `current`, which is live as far as Kubernetes says."""
    if not current.started:
        late = current.unaccepted_for(now) >= UNACCEPTED_SECONDS
        return late or current.stuck_for(now) >= STUCK_SECONDS
    hears_nobody = current.epoch == deaf and current.running_for(now) >= MUTE_SECONDS
    return hears_nobody or min(silence, current.running_for(now)) >= SILENT_SECONDS
