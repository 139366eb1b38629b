"""Worker pods: which should exist.

A slot of the gang is an index; whoever fills it is an incarnation. A pod that
failed, was deleted or is merely Terminating is replaced at once by the next
incarnation: waiting for a Terminating pod means waiting for a dead node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.names import ExitCode, WorkerId
from footplate_operator.trainingrun.observed import LostWorker, PodView
from footplate_operator.trainingrun.policies.backoff import not_before

# For a coordinator that was not heard yet to say what a worker told it before it ended.
EXPLANATION: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class WorkerPlan:
    """What to make now, and what was lost."""

    missing: tuple[WorkerId, ...] = ()
    lost: tuple[LostWorker, ...] = ()
    current: tuple[PodView, ...] = ()  # the newest pod of each slot that needs no substitute
    counter: int = 0  # highest incarnation once `missing` exist
    due: datetime | None = None  # the earliest substitute that has to wait
    covered: int = 0  # slots that a spare takes in a moment

    @property
    def complete(self) -> bool:
        """Whether every slot is filled."""
        return not self.missing and not self.covered and self.due is None

    @property
    def succeeded(self) -> bool:
        """Whether every worker ended with success, which they do only when the run is over."""
        return self.complete and bool(self.current) and all(pod.phase == "Succeeded" for pod in self.current)


@dataclass(frozen=True)
class Slots:
    """What is known of the gang's slots, beside their pods."""

    nodes: int  # how many there are
    counter: int  # `status.incarnation`
    launched: bool  # an attempt is open: a missing pod is a loss, not a beginning
    fresh: bool  # no worker was ever made
    lost: frozenset[WorkerId] = field(default_factory=frozenset)  # held to be gone
    may_create: bool = True  # False: it was just refused, so nothing may be claimed to be made
    silent: bool = False  # the coordinator that serves has not said anything yet
    spares: int = 0  # that wait, and take slots of `members` by themselves when those are lost
    members: frozenset[int] = field(default_factory=frozenset)  # slots of the newest generation


def plan(slots: Slots, pods: Sequence[PodView], now: datetime) -> WorkerPlan:
    """Which workers should be made now.

    A loss is counted when its substitute is made; a substitute that exists but
    is newer than the status knows was made just before a crash, and its loss is
    counted now.
    """
    by_index: dict[int, list[PodView]] = {}
    for pod in sorted(pods, key=lambda pod: pod.incarnation):
        by_index.setdefault(pod.index, []).append(pod)
    highest = max([slots.counter, *(pod.incarnation for pod in pods)])
    missing: list[WorkerId] = []
    lost: list[LostWorker] = []
    current: list[PodView] = []
    waits: list[datetime] = []
    covered = 0
    for index in range(slots.nodes):
        filled = by_index.get(index, [])
        newest = filled[-1] if filled else None
        if newest is not None and _fills(newest, slots):
            current.append(newest)
            if slots.launched and newest.incarnation > slots.counter:
                lost.append(LostWorker(index, filled[-2] if len(filled) > 1 else None))
            continue
        if index in slots.members and covered < slots.spares:
            covered += 1
            continue
        due = _due(filled, slots, now)
        if due > now:
            waits.append(due)
            continue
        first = slots.fresh and newest is None
        missing.append(WorkerId(index, 0 if first else highest + 1))
        if slots.launched and slots.may_create:
            lost.append(LostWorker(index, newest))
    made = [worker.incarnation for worker in missing] if slots.may_create else []
    counter = max([highest, *made])
    return WorkerPlan(tuple(missing), tuple(lost), tuple(current), counter, min(waits, default=None), covered)


def _fills(pod: PodView, slots: Slots) -> bool:
    """Whether `pod` fills its slot, now or in a moment."""
    if pod.phase == "Succeeded":
        return True
    return pod.live and pod.worker not in slots.lost


def _due(filled: Sequence[PodView], slots: Slots, now: datetime) -> datetime:
    """When the next pod of a slot may be made, after those that `filled` it."""
    due = not_before(filled, now)
    if filled and slots.silent and filled[-1].exit_code == ExitCode.CONFIG:
        return max(due, filled[-1].end + EXPLANATION)  # the coordinator knows why, and that ends the run
    return due
