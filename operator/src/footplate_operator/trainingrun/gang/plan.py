"""Plans the missing pods of a run that should train: coordinator, workers, spares.

A slot of the gang is an index; each pod that fills it is an incarnation. The next incarnation replaces a pod
that failed, was deleted or is merely Terminating at once: waiting for a Terminating pod means waiting for a
dead node.

The coordinator gives a spare the slot of a lost worker on its own.
From then on the operator counts the pod as a worker, and labels it so.
If pods of a deleted run of the same name still exist, numbers begin after theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Final

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import GoneWorker
from footplate_contracts.names import ExitCode, Phase, Role, WorkerId
from footplate_operator.runtime.clock import seconds_between
from footplate_operator.trainingrun.gang import drain, losses
from footplate_operator.trainingrun.gang.coordinator import (
    CoordinatorPlan,
    get_serving_state,
    plan_coordinator,
)
from footplate_operator.trainingrun.gang.drain import CordonPlan
from footplate_operator.trainingrun.observation import LostWorker, Observed, PodView, by_index, live_nodes
from footplate_operator.trainingrun.packing import TargetDomain
from footplate_operator.trainingrun.policies import suspension
from footplate_operator.trainingrun.policies.backoff import not_before
from footplate_operator.trainingrun.run import Run

# For a coordinator that was not heard yet to say what a worker told it before it ended.
EXPLANATION: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class WorkerPlan:
    """Worker pods to create now, and lost workers."""

    missing: tuple[WorkerId, ...] = ()
    lost: tuple[LostWorker, ...] = ()
    current: tuple[PodView, ...] = ()  # the newest pod of each slot that needs no substitute
    ended: tuple[PodView, ...] = ()  # the newest pod of each slot that has ended and is still there
    counter: int = 0  # highest incarnation once `missing` exist
    due: datetime | None = None  # the earliest substitute that has to wait
    covered: int = 0  # slots that a spare takes in a moment
    steady: bool = True  # all slots are filled, or their agents save before they end
    held: int = 0  # slots that wait for the first worker's node, which decides their domain

    @property
    def complete(self) -> bool:
        """True if every slot is filled."""
        return not self.missing and not self.covered and not self.held and self.due is None

    @property
    def bound(self) -> bool:
        """True if every slot is filled by a pod that has a node."""
        return self.complete and not any(pod.unbound for pod in self.current)

    @property
    def succeeded(self) -> bool:
        """True if every worker ended with success, which they do only when the run is over."""
        return self.complete and bool(self.current) and all(pod.phase == "Succeeded" for pod in self.current)


@dataclass(frozen=True)
class SparePlan:
    """Spares to create now, `index` being their number, and the due time of the next one that has to wait."""

    missing: tuple[WorkerId, ...] = ()
    due: datetime | None = None


@dataclass(frozen=True)
class GangPlan:
    """Plan for all pods of a run, and its coordinator's report on them."""

    state: CoordinatorState  # of the coordinator that serves now
    observed: Observed  # spares that have a slot are workers in it
    promoted: tuple[PodView, ...]  # those, as their labels do not say yet
    coordinator: CoordinatorPlan
    new_epoch: bool  # a coordinator is to be made now
    workers: WorkerPlan
    spares: SparePlan
    counter: int  # highest incarnation once all that is missing exists
    interrupting: tuple[LostWorker, ...]  # those of `workers.lost` that may have ended a generation
    gone: tuple[GoneWorker, ...]  # what the coordinator is told to believe of those that it suspects
    avoided: frozenset[str]  # nodes where no pod is put now
    relief: CordonPlan  # of workers on cordoned nodes

    @property
    def is_closed(self) -> bool:
        """True if the gang has saved and ended on command: it trains no more, whatever the reason was."""
        said = self.coordinator.current is not None and self.state.state is RunState.SUSPENDED
        return said or any(pod.exit_code == ExitCode.SUSPENDED for pod in self.workers.ended)

    @property
    def is_healthy(self) -> bool:
        """True if no worker is missed and all are ready, so no silence has to be watched."""
        return (
            not self.state.missed
            and not self.state.missing
            and all(pod.ready for pod in self.workers.current)
        )

    def find_target(self) -> TargetDomain | None:
        """Return the topology domain of pods that are created now; None for a gang that is not packed."""
        packing = self.observed.packing
        return None if packing is None else packing.find_target(live_nodes(self.observed.workers))

    @property
    def due(self) -> list[datetime]:
        """Times at which the next pod of each role may be created, if one has to wait."""
        dues = (self.coordinator.due, self.workers.due, self.spares.due)
        return [due for due in dues if due is not None]


def plan(run: Run, seen: Observed, admitted: int, now: datetime) -> GangPlan:
    """Plan the gang of `run`, from the observed state `seen`; `admitted`: nodes of its revision."""
    status, compute = run.status, run.spec.compute
    known_epoch = status.coordinator.epoch if status.coordinator else 0
    taken_epoch = max((pod.epoch for pod in seen.predecessors), default=0)
    waited = _waited(run, seen, now)
    in_time = losses.MUTE_SECONDS <= waited < losses.ALL_MUTE_SECONDS
    deaf = in_time and losses.has_no_contact(seen.coordinator, seen.workers, now)
    # Of one that was never heard nothing is known but what Kubernetes says.
    suspects = losses.list_suspect_nodes(CoordinatorState.empty(), seen.gang, now)
    unusable = suspects | seen.avoided.refused | seen.ending
    serving = plan_coordinator(
        seen.coordinators,
        known_epoch,
        run.has_gang,
        seen.silence,
        now,
        taken_epoch,
        _holds_coordinator(run, seen),
        deaf=seen.coordinator.epoch if deaf else 0,
        unusable=unusable,
    )
    state = get_serving_state(seen.coordinator, serving, run.phase)
    taken = promoted(seen.spares, state)
    observed, packing = seen.with_pods(taken), seen.packing
    slots = Slots(
        nodes=compute.nodes,
        counter=status.internal.incarnation,
        launched=bool(status.attempts) and status.attempts[-1].end is None,
        fresh=not status.attempts,
        taken=max((pod.incarnation for pod in seen.predecessors if pod.role != Role.COORDINATOR), default=-1),
        lost=losses.find_lost(state, observed.workers, now, serving.running_for(now), waited),
        may_create=observed.may_create,
        heard=losses.list_joined(state) if state.state is RunState.TRAINING else frozenset(),
        silent=not state.is_received,
        spare=max((pod.incarnation for pod in observed.spares), default=-1),
        spares=_ready(state, observed.spares),
        members=state.member_indices,
        first_only=packing is not None and packing.awaits_first(live_nodes(observed.workers)),
    )
    workers = plan_workers(slots, observed.workers, now)
    relief = drain.plan_cordon(workers.current, observed.spares, state, workers.covered, compute.spares, now)
    spares = plan_spares(0 if slots.first_only else relief.wanted, observed.spares, workers.counter, now)
    made = [spare.incarnation for spare in spares.missing] if observed.may_create else []
    unfit = seen.avoided.refused | seen.avoided.broken
    trained = status.world.nodes if status.world else admitted
    return GangPlan(
        state=state,
        observed=observed,
        promoted=taken,
        coordinator=serving,
        new_epoch=observed.may_create and serving.wanted and serving.due <= now,
        workers=workers,
        spares=spares,
        counter=max([workers.counter, *made]),
        interrupting=interrupting(workers.lost, state, trained),
        gone=tuple(losses.find_gone(state, observed.workers, now)),
        avoided=losses.list_suspect_nodes(state, observed.gang, now) | unfit | seen.ending,
        relief=relief,
    )


def _waited(run: Run, seen: Observed, now: datetime) -> float:
    """Return the seconds for which the run has been about to train again; 0 while it trains, or is not to.

    Before its first generation the time that its image takes to start an agent is unknown: subtract half of
    the startup deadline; the result may be negative.
    """
    suspends = suspension.find_suspension(run, seen.spending) is not None
    if suspends or run.phase not in (Phase.STARTING, Phase.RESTARTING):
        return 0.0
    spoke = any(attempt.generation for attempt in run.status.attempts)
    benefit = 0.0 if spoke else run.spec.resilience.startup_deadline_seconds / 2
    return seconds_between(run.phase_since, now) - benefit


def _holds_coordinator(run: Run, seen: Observed) -> bool:
    """Return whether the coordinator stays where it is, though its node is about to end."""
    suspends = suspension.find_suspension(run, seen.spending) is not None
    return suspends or run.phase is not Phase.RUNNING or any(map(_leaves, seen.workers))


def _leaves(pod: PodView) -> bool:
    """Return whether a worker still has to save before it ends: its coordinator should stay until then."""
    return not pod.ended and (pod.terminating or (bool(pod.notice) and not pod.cordoned))


# -- workers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Slots:
    """Facts about the gang's slots, beside their pods."""

    nodes: int  # how many there are
    counter: int  # `status.internal.incarnation`
    launched: bool  # an attempt is open: a missing pod is a loss, not a beginning
    fresh: bool  # no worker was ever made
    taken: int = -1  # the highest incarnation of a pod that a deleted run of the same name has left
    lost: frozenset[WorkerId] = field(default_factory=frozenset)  # held to be gone
    may_create: bool = True  # False: it was just refused, so nothing may be claimed to be made
    heard: frozenset[WorkerId] = field(default_factory=frozenset)  # by the coordinator, as it said last
    silent: bool = False  # the coordinator that serves has not said anything yet
    spare: int = -1  # the highest incarnation of a spare, which a crash may have hidden from the status
    spares: int = 0  # that wait, and take slots of `members` by themselves when those are lost
    members: frozenset[int] = field(default_factory=frozenset)  # slots of the newest generation
    first_only: bool = False  # one worker is to be bound before the others are made


def plan_workers(slots: Slots, pods: Sequence[PodView], now: datetime) -> WorkerPlan:
    """Plan the workers to create now.

    A loss is counted when its substitute is created; a substitute that exists but
    is newer than the status knows was created just before a crash, and its loss is
    counted now.
    """
    pods_of = by_index(pods)
    highest = max([slots.counter, slots.taken, slots.spare, *(pod.incarnation for pod in pods)])
    missing: list[WorkerId] = []
    lost: list[LostWorker] = []
    current: list[PodView] = []
    waits: list[datetime] = []
    covered, held, steady = 0, 0, True
    is_led = any(_fills(pod, slots) for pod in pods)
    for index in range(slots.nodes):
        filled = _without_taken_back(pods_of.get(index, []), slots)
        newest = filled[-1] if filled else None
        if newest is not None and _fills(newest, slots):
            current.append(newest)
            before = filled[-2] if len(filled) > 1 else None
            if slots.launched and newest.incarnation > slots.counter and not _saves(before, slots):
                lost.append(LostWorker(index, before))
            continue
        steady = steady and _saves(newest, slots)
        if index in slots.members and covered < slots.spares:
            covered += 1
            continue
        if slots.first_only and (is_led or missing or waits):
            held += 1
            continue
        due = _due(filled, slots, now)
        if due > now:
            waits.append(due)
            continue
        first = slots.fresh and newest is None
        missing.append(WorkerId(index, slots.taken + 1 if first else highest + 1))
        if slots.launched and slots.may_create and not _saves(newest, slots):
            lost.append(LostWorker(index, newest))
    made = [worker.incarnation for worker in missing] if slots.may_create else []
    counter = max([highest, *made])
    newest_ones = [filled[-1] for filled in pods_of.values()]
    return WorkerPlan(
        missing=tuple(missing),
        lost=tuple(lost),
        current=tuple(current),
        ended=tuple(pod for pod in newest_ones if pod.ended and not pod.terminating),
        counter=counter,
        due=min(waits, default=None),
        covered=covered,
        steady=steady,
        held=held,
    )


def _fills(pod: PodView, slots: Slots) -> bool:
    """Return whether `pod` fills its slot, now or in a moment."""
    if pod.phase == "Succeeded":
        return True
    return pod.live and pod.worker not in slots.lost


def _without_taken_back(pods: list[PodView], slots: Slots) -> list[PodView]:
    """Return the pods of one slot without unstarted, terminating substitutes of a pod that is back."""
    last = max((at for at, pod in enumerate(pods) if _fills(pod, slots)), default=-1)
    later = pods[last + 1 :]
    taken_back = last >= 0 and all(pod.terminating and not pod.started for pod in later)
    return pods[: last + 1] if taken_back else pods


def _saves(pod: PodView | None, slots: Slots) -> bool:
    """Return whether a pod that is being deleted still trains: its agent ends once all have saved."""
    return pod is not None and pod.terminating and not pod.ended and pod.worker in slots.heard


def _due(filled: Sequence[PodView], slots: Slots, now: datetime) -> datetime:
    """Return when the next pod of a slot may be created, after the pods `filled`."""
    due = not_before(filled, now)
    if filled and slots.silent and filled[-1].exit_code == ExitCode.CONFIG:
        return max(due, filled[-1].end + EXPLANATION)  # the coordinator knows why, and that ends the run
    return due


def interrupting(lost: Iterable[LostWorker], state: CoordinatorState, trained: int) -> tuple[LostWorker, ...]:
    """Return the `lost` workers that may have ended a generation.

    The loss of a pod outside the generation that trains, or of a slot that never had one,
    interrupts nothing. `trained`: the nodes that the run trained with last, or
    was admitted with.
    """
    members = {member.agent.worker for member in state.members}
    slots = state.member_indices if members else range(trained)
    gathers = not members or state.state is RunState.GATHERING
    return tuple(
        worker
        for worker in lost
        if (worker.index in slots if worker.pod is None else gathers or worker.pod.worker in members)
    )


# -- spares ------------------------------------------------------------------------------


def plan_spares(wanted: int, pods: Sequence[PodView], counter: int, now: datetime) -> SparePlan:
    """Plan which of `wanted` spares to create; `counter` is the highest incarnation of any worker."""
    newest = max([counter, *(pod.incarnation for pod in pods)])
    missing: list[WorkerId] = []
    waits: list[datetime] = []
    pods_of = by_index(pods)
    live = {pod.index for pod in pods if pod.live}
    free = (number for number in count() if number not in live)
    for number in islice(free, max(0, wanted - len(live))):
        due = not_before(pods_of.get(number, []), now)
        if due > now:
            waits.append(due)
        else:
            missing.append(WorkerId(number, newest + 1))
    return SparePlan(tuple(missing), min(waits, default=None))


def _ready(state: CoordinatorState, pods: Sequence[PodView]) -> int:
    """Count the spares among `pods` that will take a lost slot in a moment and spare a substitute."""
    if state.generation is None:
        return 0
    live = {pod.name for pod in pods if pod.live}
    return sum(agent.is_spare and agent.pod_name in live for agent in state.waiting)


def promoted(pods: Sequence[PodView], state: CoordinatorState) -> tuple[PodView, ...]:
    """Return the spares among `pods` that have a slot of the gang, as workers."""
    # One that has a slot already waits for the others before it is a member.
    agents = [*state.waiting, *(member.agent for member in state.members)]
    slots = {agent.pod_name: agent.worker for agent in agents if not agent.is_spare}
    return tuple(
        replace(pod, role=Role.WORKER, index=slot.index, incarnation=slot.incarnation)
        for pod in pods
        if (slot := slots.get(pod.name)) is not None
    )
