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
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import Phase, Role
from footplate_operator.trainingrun.gang.losses import MUTE_SECONDS, STUCK_SECONDS, UNACCEPTED_SECONDS
from footplate_operator.trainingrun.gang.moves import SETTLE_SECONDS
from footplate_operator.trainingrun.observed import PodView
from footplate_operator.trainingrun.policies.backoff import not_before

# Longer than a poll that fails and the next one: it stands still, is cut off, or its node is gone.
SILENT_SECONDS: Final = 8.0
# For the scheduler to find a node where no earlier one is; then its successor may be put beside one of them.
CRAMPED_SECONDS: Final = 10.0


@dataclass(frozen=True)
class CoordinatorPlan:
    """`current` serves; where one is `wanted`, `epoch` is to be made, not before `due`."""

    current: PodView | None
    epoch: int
    due: datetime
    left: tuple[PodView, ...] = ()  # those of lower epochs that have not ended
    wanted: bool = False
    cramped: bool = False  # the last one found no room where no earlier one is
    unusable: frozenset[str] = frozenset()  # nodes where none is put, whoever was there

    def running_for(self, now: datetime) -> float:
        """Seconds for which the one that serves has run."""
        return self.current.running_for(now) if self.current is not None else 0.0

    @property
    def avoided(self) -> frozenset[str]:
        """Nodes for the next one to keep away from: where earlier ones are may be why they do not answer.

        Not so where no other node has room. Such a pod may stay for long, though its node is well: one that
        is told to end while it starts may never hear it, and has ten minutes to hand over what it has.
        """
        beside = frozenset() if self.cramped else frozenset(pod.node for pod in self.left if pod.node)
        return self.unusable | beside


def plan_coordinator(
    pods: Sequence[PodView],
    known: int,
    begun: bool,
    silence: float,
    now: datetime,
    taken: int = 0,
    held: bool = False,
    deaf: int = 0,
    unusable: frozenset[str] = frozenset(),
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
        unusable: nodes where none is put now, whoever was there.
    """
    lowest = known if begun else known + 1
    serving = [pod for pod in pods if pod.live and pod.epoch >= lowest]
    current = max(serving, key=lambda pod: pod.epoch, default=None)
    cramped = current is not None and _cramped(current, unusable, now)
    follows = current is not None and not cramped and not _given_up(current, silence, now, deaf)
    epoch = max([known, taken, *(pod.epoch for pod in pods)]) + 1
    before = _handing_over(pods, current, silence, now, deaf) if begun else None
    if before is not None:
        due = now if follows else not_before(pods, now)
        number = before.epoch if follows else epoch
        return CoordinatorPlan(before, number, due, wanted=not follows, cramped=cramped, unusable=unusable)
    if current is not None and follows:
        left = tuple(pod for pod in pods if not pod.ended and pod.epoch < current.epoch)
        moves = current.started and current.noticed_for(now) >= SETTLE_SECONDS and not held
        number = epoch if moves else current.epoch
        return CoordinatorPlan(current, number, now, left, wanted=moves, unusable=unusable)
    left = tuple(pod for pod in pods if not pod.ended)
    return CoordinatorPlan(None, epoch, not_before(pods, now), left, True, cramped, unusable)


def sent_elsewhere(pod: PodView, api_url: str) -> PodView:
    """`pod`, which should give its place up if it brings its telemetry where no API is now.

    It does so as one whose node is about to end. Its agents keep what it could not bring, for its successor.
    """
    if pod.role != Role.COORDINATOR or not api_url or pod.api_url == api_url:
        return pod
    return replace(pod, notice=f"it brings telemetry to {pod.api_url or 'no API'}, and that is at {api_url}")


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


def _cramped(pod: PodView, unusable: frozenset[str], now: datetime) -> bool:
    """Whether `pod` finds no room, and is kept away from nodes that are not `unusable`."""
    waits = pod.live and not pod.node and bool(pod.unschedulable)
    return waits and pod.seen_for(now) >= CRAMPED_SECONDS and bool(pod.avoids - unusable)


def _given_up(current: PodView, silence: float, now: datetime, deaf: int) -> bool:
    """Whether another one should take over from `current`, which is live as far as Kubernetes says."""
    if not current.started:
        late = current.unaccepted_for(now) >= UNACCEPTED_SECONDS
        return late or current.stuck_for(now) >= STUCK_SECONDS
    hears_nobody = current.epoch == deaf and current.running_for(now) >= MUTE_SECONDS
    return hears_nobody or min(silence, current.running_for(now)) >= SILENT_SECONDS
