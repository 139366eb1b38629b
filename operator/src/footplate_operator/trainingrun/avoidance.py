"""Nodes that a run avoids because its own pods ended, or could not start, there.

A broken GPU works again after a reset, and breaks again under load: one failure is evidence for days. A
kubelet's rejection, or a lost connection between two nodes, passes sooner. All evidence is read from pods,
the coordinator and the status, so an operator that restarts recovers most of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import ExitCode, Reason, Role
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.conditions import shorten
from footplate_operator.trainingrun.gang import losses
from footplate_operator.trainingrun.gang.losses import STUCK_SECONDS
from footplate_operator.trainingrun.observation import AvoidedNodes, PodView
from footplate_operator.trainingrun.status.phase import TRAINING

REFUSED: Final = timedelta(minutes=10)
BROKEN: Final = timedelta(days=7)
FORGIVEN: Final = timedelta(hours=1)  # without training, until a node with a broken GPU is tried again
MOST: Final = 128  # a rack of 72, and more
MOST_STUCK: Final = 3  # or a mistake of the manifest itself would run out of nodes

_REJECTED: Final = "rejected a pod"
_STUCK: Final = "could not start a pod"
_UNREACHED: Final = "was not reached by a peer"
_GPU: Final = Reason.GPU_ERROR.value
_LASTING: Final = frozenset({_GPU, Reason.NODE_MISCONFIGURED.value})  # until somebody mends the node


class AvoidanceReason(NamedTuple):
    """Evidence against a node."""

    since: datetime
    why: str

    @property
    def lasts(self) -> bool:
        """True if only a repair of the node ends it."""
        return self.why in _LASTING


@dataclass
class NodeAvoidance:
    """Nodes that one run avoids."""

    _known: dict[str, AvoidanceReason] = field(default_factory=dict)  # by name of the node
    _displaced: dict[str, str] = field(default_factory=dict)  # pod uid -> its node, where no peer reached it
    _told: dict[tuple[int, int], datetime] = field(default_factory=dict)  # a failure of which epoch -> seen
    _forgiven: dict[str, datetime] = field(default_factory=dict)  # node -> evidence before does not count
    _idle: datetime | None = None  # since when the run finds no room, or a node was forgiven
    _dropped: tuple[str, ...] = ()  # nodes that the last look was the first to find no room for
    _without_room: set[str] = field(default_factory=set)

    def update(
        self, status: TrainingRunStatus, pods: Iterable[PodView], state: CoordinatorState, now: datetime
    ) -> AvoidedNodes:
        """Return the nodes to avoid at `now`, according to the run's pods, coordinator and attempts."""
        known = list(pods)
        for node, grounds in (*self._of_pods(known, now), *self._of_failures(status, state, now)):
            self._note(node, grounds)
        unreachable = losses.list_unreachable(state)
        for pod in known:
            if pod.node and pod.role == Role.WORKER and pod.worker in unreachable:
                self._note(pod.node, AvoidanceReason(now, _UNREACHED))
                self._displaced[pod.uid] = pod.node
        for taken_back in self._displaced.keys() & {member.agent.pod_uid for member in state.members}:
            self._known.pop(self._displaced.pop(taken_back), None)
        there = {pod.uid for pod in known}
        self._displaced = {uid: node for uid, node in self._displaced.items() if uid in there}
        self._forget(losses.list_excess_suspects(state, known, now), now)
        self._forgive(status, known, now)
        return self.view

    @property
    def view(self) -> AvoidedNodes:
        """Nodes avoided after the last call of `update`."""
        broken = self._broken
        return AvoidedNodes(frozenset(self._known) - broken, broken, self._dropped)

    @property
    def _broken(self) -> frozenset[str]:
        return frozenset(node for node, grounds in self._known.items() if grounds.lasts)

    @property
    def message(self) -> str:
        """Avoided nodes, newest first, with reasons; empty if there are none."""
        newest = sorted(self._known.items(), key=lambda known: known[1].since, reverse=True)
        words = shorten([f"{node} ({grounds.why})" for node, grounds in newest])
        return f"the run avoids {words}" if words else ""

    def explained(self, pod: PodView) -> PodView:
        """Return `pod`, with the avoided nodes in its message if the scheduler finds no node for it."""
        if not pod.unschedulable or not pod.avoids & self._known.keys():
            return pod
        return replace(pod, unschedulable=f"{pod.unschedulable[:512]}; {self.message}"[:1024])

    def _of_pods(self, pods: Iterable[PodView], now: datetime) -> Iterator[tuple[str, AvoidanceReason]]:
        for pod in pods:
            if not pod.node:
                continue
            if pod.rejected:
                yield pod.node, AvoidanceReason(pod.end, _REJECTED)
            elif pod.stuck_for(now) >= STUCK_SECONDS:
                yield pod.node, AvoidanceReason(now, _STUCK)
            elif pod.ended and pod.exit_code == ExitCode.GPU_ERROR:
                yield pod.node, AvoidanceReason(pod.end, _GPU)

    def _of_failures(
        self, status: TrainingRunStatus, state: CoordinatorState, now: datetime
    ) -> Iterator[tuple[str, AvoidanceReason]]:
        for attempt in status.attempts:
            if attempt.reason in _LASTING and attempt.node and attempt.end:
                yield attempt.node, AvoidanceReason(parse_time(attempt.end), attempt.reason)
        broken = [failure for failure in state.failures if failure.failure.reason in _LASTING]
        numbers = [(state.epoch, failure.number) for failure in broken]
        self._told = {number: self._told.get(number, now) for number in numbers}
        for number, failure in zip(numbers, broken, strict=True):
            yield failure.agent.node_name, AvoidanceReason(self._told[number], failure.failure.reason)

    def _note(self, node: str, grounds: AvoidanceReason) -> None:
        known, forgiven = self._known.get(node), self._forgiven.get(node)
        if forgiven is not None and grounds.lasts and grounds.since <= forgiven:
            return
        if known is None or (grounds.lasts, grounds.since) > (known.lasts, known.since):
            self._known[node] = grounds

    def _forget(self, lost: Iterable[str], now: datetime) -> None:
        """Drop expired evidence, and the oldest above the limits; `lost`: further nodes beyond the limits."""
        newest = sorted(self._known.items(), key=lambda known: (known[1].since, known[0]), reverse=True)
        fresh = {
            node: grounds
            for node, grounds in newest
            if now - grounds.since < (BROKEN if grounds.lasts else REFUSED)
        }
        stuck = [node for node, grounds in fresh.items() if grounds.why == _STUCK]
        kept = [node for node in fresh if node not in stuck[MOST_STUCK:]]
        without_room = {*kept[MOST:], *lost}
        self._dropped, self._without_room = tuple(sorted(without_room - self._without_room)), without_room
        self._known = {node: fresh[node] for node in kept[:MOST]}

    def _forgive(self, status: TrainingRunStatus, pods: Iterable[PodView], now: datetime) -> None:
        """Retry the oldest broken node if the run has found no room without broken nodes for FORGIVEN."""
        if status.phase in TRAINING:
            self._idle = None
            return
        if any(pod.live and pod.unschedulable and pod.avoids & self._broken for pod in pods):
            self._idle = self._idle or now
        if self._idle is not None and self._broken and now - self._idle >= FORGIVEN:
            oldest = min(self._broken, key=lambda node: (self._known[node].since, node))
            self._idle = self._forgiven[oldest] = now
            del self._known[oldest]
