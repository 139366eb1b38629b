"""Plans which coordinator serves, and when to create another one.

It is small, without GPU or user volumes, and cheap to replace. Its
replacement gets the next epoch, by which agents distinguish the new one from a
stale one that comes back from behind a partition. Workers are not restarted: they train on, and the
new coordinator adopts their generation. So a silent coordinator need not be dead to be replaced.

A coordinator whose node is about to end serves until its successor has started, which may be never, for want
of room: without a coordinator no checkpoint is committed. Workers that leave the same node save first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import Phase, Role
from footplate_operator.trainingrun.gang.drain import SETTLE_SECONDS
from footplate_operator.trainingrun.gang.losses import MUTE_SECONDS, STUCK_SECONDS, UNACCEPTED_SECONDS
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.policies.backoff import not_before

# Longer than a poll that fails and the next one: it stands still, is cut off, or its node is gone.
SILENT_SECONDS: Final = 8.0
# For the scheduler to find a node where no earlier one is; then its successor may be put beside one of them.
CRAMPED_SECONDS: Final = 10.0


@dataclass(frozen=True)
class CoordinatorPlan:
    """Plan for the coordinator: `current` serves; if `wanted`, create `epoch`, not before `due`."""

    current: PodView | None
    epoch: int
    due: datetime
    left: tuple[PodView, ...] = ()  # those of lower epochs that have not ended
    wanted: bool = False
    cramped: bool = False  # the last one found no room where no earlier one is
    unusable: frozenset[str] = frozenset()  # nodes where none is put, whoever was there

    def running_for(self, now: datetime) -> float:
        """Return the seconds for which the serving coordinator has run."""
        return self.current.running_for(now) if self.current is not None else 0.0

    @property
    def avoided(self) -> frozenset[str]:
        """Nodes for the next one to avoid: nodes of earlier ones may be why these do not answer.

        Only the unusable nodes if no other node has room. An earlier pod may stay for long though its node is
        well: a pod that gets SIGTERM while it starts may miss it, and has ten minutes to send its data.
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
    """Plan which coordinator should exist.

    Args:
        pods: the run's coordinator pods, any state.
        known: the highest epoch in the status.
        begun: the run is under way. When it is resumed, the coordinator from before
            the suspension has closed it and cannot open it again.
        silence: seconds since the polled coordinator last answered.
        taken: the highest epoch of the pods that a deleted run of the same name has left.
        held: the coordinator must stay where it is, though its node is about to end.
        deaf: the epoch of a coordinator that receives nothing from the workers; 0 for none.
        unusable: nodes that take no coordinator now, whoever was there.
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


def with_api_change(pod: PodView, api_url: str) -> PodView:
    """Return `pod`, with a notice to leave if it sends its telemetry to an outdated API URL.

    It leaves as a pod whose node is about to end. Its agents store unsent telemetry for its successor.
    """
    if pod.role != Role.COORDINATOR or not api_url or pod.api_url == api_url:
        return pod
    return replace(
        pod, notice=f"it sends telemetry to {pod.api_url or 'no API'}, but the API is at {api_url}"
    )


def get_serving_state(
    state: CoordinatorState, serving: CoordinatorPlan, phase: Phase | None
) -> CoordinatorState:
    """Return `state` if the serving coordinator reported it, else an empty one.

    While no coordinator serves, the last state stays, except for a suspended run.
    """
    if serving.current is None:
        return CoordinatorState.empty() if phase is Phase.SUSPENDED else state
    return state if state.epoch == serving.current.epoch else CoordinatorState.empty()


def _handing_over(
    pods: Sequence[PodView], successor: PodView | None, silence: float, now: datetime, deaf: int
) -> PodView | None:
    """Return the coordinator that has to leave its node and serves until its `successor` has started."""
    if successor is not None and successor.started:
        return None
    below = successor.epoch if successor is not None else float("inf")
    leaving = [pod for pod in pods if pod.live and pod.started and pod.notice and pod.epoch < below]
    newest = max(leaving, key=lambda pod: pod.epoch, default=None)
    return newest if newest is not None and not _given_up(newest, silence, now, deaf) else None


def _cramped(pod: PodView, unusable: frozenset[str], now: datetime) -> bool:
    """Return whether `pod` finds no room, and avoids nodes that are not `unusable`."""
    waits = pod.live and not pod.node and bool(pod.unschedulable)
    return waits and pod.seen_for(now) >= CRAMPED_SECONDS and bool(pod.avoids - unusable)


def _given_up(current: PodView, silence: float, now: datetime, deaf: int) -> bool:
    """Return whether another coordinator should take over from `current`, which is live for Kubernetes."""
    if not current.started:
        late = current.unaccepted_for(now) >= UNACCEPTED_SECONDS
        return late or current.stuck_for(now) >= STUCK_SECONDS
    hears_nobody = current.epoch == deaf and current.running_for(now) >= MUTE_SECONDS
    return hears_nobody or min(silence, current.running_for(now)) >= SILENT_SECONDS
