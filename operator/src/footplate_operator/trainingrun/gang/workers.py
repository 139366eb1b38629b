"""Worker pods: which should exist.

A place in the gang is an index; whoever fills it is an incarnation. A pod that
failed, was deleted or is merely Terminating is replaced at once by the next
incarnation: waiting for a Terminating pod means waiting for a dead node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from footplate_contracts.names import ExitCode
from footplate_operator.trainingrun.observed import Loss, PodView
from footplate_operator.trainingrun.policies.backoff import Life, not_before

# For a coordinator that was not heard yet to say what a worker told it before it ended.
WHY: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class WorkerPlan:
    """What to make now, and what was lost."""

    missing: tuple[tuple[int, int], ...] = ()  # (index, incarnation)
    losses: tuple[Loss, ...] = ()
    current: tuple[PodView, ...] = ()  # the newest pod of each place that needs no substitute
    counter: int = 0  # highest incarnation once `missing` exist
    due: datetime | None = None  # the earliest substitute that has to wait
    stood_in: int = 0  # places that a spare takes in a moment

    @property
    def complete(self) -> bool:
        """Whether every place is filled."""
        return not self.missing and not self.stood_in and self.due is None

    @property
    def succeeded(self) -> bool:
        """Whether every worker ended with success, which they do only when the run is over."""
        return self.complete and bool(self.current) and all(pod.phase == "Succeeded" for pod in self.current)


@dataclass(frozen=True)
class Places:
    """What is known of the gang. `lost`: (index, incarnation) that are held to be gone."""

    nodes: int
    counter: int  # `status.incarnation`
    launched: bool  # an attempt is open: a missing pod is a loss, not a beginning
    fresh: bool  # no worker was ever made
    lost: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    making: bool = True  # False: it was just refused, so nothing may be claimed to be made
    unheard: bool = False  # the coordinator that serves has not said anything yet
    spares: int = 0  # that wait, and take places of `seats` by themselves when those are lost
    seats: frozenset[int] = field(default_factory=frozenset)  # of the newest generation


def plan(places: Places, pods: Sequence[PodView], now: datetime) -> WorkerPlan:
    """Which workers should be made now.

    A loss is counted when its substitute is made; a substitute that exists but
    is newer than the status knows was made just before a crash, and its loss is
    counted now.
    """
    by_index: dict[int, list[PodView]] = {index: [] for index in range(places.nodes)}
    for pod in pods:
        by_index.setdefault(pod.index, []).append(pod)
    highest = max([places.counter, *(pod.incarnation for pod in pods)])
    missing: list[tuple[int, int]] = []
    losses: list[Loss] = []
    current: list[PodView] = []
    waits: list[datetime] = []
    stood_in = 0
    for index in range(places.nodes):
        tenants = sorted(by_index[index], key=lambda pod: pod.incarnation)
        newest = tenants[-1] if tenants else None
        if newest is not None and _holds(newest, places):
            current.append(newest)
            if places.launched and newest.incarnation > places.counter:
                losses.append(Loss(index, newest.incarnation, tenants[-2] if len(tenants) > 1 else None))
            continue
        if index in places.seats and stood_in < places.spares:
            stood_in += 1
            continue
        due = not_before([Life(pod.created, pod.end) for pod in tenants if pod.ended], now)
        if newest is not None and places.unheard and newest.exit_code == ExitCode.CONFIG:
            due = max(due, newest.end + WHY)  # what ends the run should be told by who knows why
        if due > now:
            waits.append(due)
            continue
        first = places.fresh and newest is None
        incarnation = 0 if first else highest + 1
        missing.append((index, incarnation))
        if places.launched and places.making:
            losses.append(Loss(index, incarnation, newest))
    made = [incarnation for _, incarnation in missing] if places.making else []
    counter = max([highest, *made])
    soonest = min(waits) if waits else None
    return WorkerPlan(tuple(missing), tuple(losses), tuple(current), counter, soonest, stood_in)


def _holds(pod: PodView, places: Places) -> bool:
    """Whether `pod` fills its place, now or in a moment."""
    if pod.phase == "Succeeded":
        return True
    return pod.live and (pod.index, pod.incarnation) not in places.lost
