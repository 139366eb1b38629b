"""Membership of a run: one generation at a time is open, sealed, or over.

Every function takes an event and the time `now` (seconds of one monotonic
clock), changes the membership and returns the actions that follow. There is no
clock, no socket and no thread in here, so any order of events can be tried in
a test.

A generation is sealed when every slot is filled by a live agent that has
joined, or when enough have and the others do not come (see gang_size.py). It is
broken, and a new one opened at once, by evidence: a member joins again (its
ranks failed), its connection ends (its process is gone), a newer incarnation of
its slot speaks, it leaves, or it is silent for too long.
"""

from __future__ import annotations

from collections.abc import Sequence

from footplate_contracts.directives import Command
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Reason, WorkerId
from footplate_contracts.rendezvous import AgentIdentity, Heartbeat, JoinRequest, SealedGeneration
from footplate_elastic.coordinator.actions import (
    TOLD_TO_END,
    Action,
    AgentArrived,
    AgentEvicted,
    AgentLeaving,
)
from footplate_elastic.coordinator.decisions import advance, advance_if_due, open_generation
from footplate_elastic.coordinator.failure_detector import (
    extend_deadlines,
    find_disconnected,
    find_silent,
    mark_lost,
)
from footplate_elastic.coordinator.failures import may_be_partition
from footplate_elastic.coordinator.gang_size import find_better_count
from footplate_elastic.coordinator.slots import RankOutcome, Slot, is_answered_by, member_of
from footplate_elastic.coordinator.state import Membership, Rendezvous
from footplate_elastic.protocol.wire import AgentRefusal


def handle_message(
    state: Membership, agent: AgentIdentity, now: float
) -> tuple[AgentRefusal | None, list[Action]]:
    """Process any message from `agent`: its slot is filled, or it is turned away.

    Raises ValueError for a number of ranks that differs from the run's. Any index may speak: it may train
    already in a size that the operator is about to send.
    """
    if agent.local_world_size != state.local_world_size:
        raise ValueError(
            f"slots is {agent.local_world_size}, but this run has {state.local_world_size} ranks per node"
        )
    if state.superseded:
        return AgentRefusal.SUPERSEDED, []
    slot = state.slots.get(agent.index)
    if slot is None:
        sealed = state.sealed_agent(agent.index)
        if sealed is not None and sealed.incarnation > agent.incarnation:
            return AgentRefusal.EVICTED, []
        state.slots[agent.index] = Slot(agent, now)
        return None, [AgentArrived(agent)]
    if agent.incarnation < slot.agent.incarnation:
        return AgentRefusal.EVICTED, []
    if agent.incarnation > slot.agent.incarnation:
        return None, _follow(state, slot, agent, now)
    slot.heard, slot.excused = now, 0.0
    if not slot.lost or slot.unreachable:
        return None, []
    slot.lost, slot.silent = "", False
    if slot.leaving:
        state.leaving[agent.index] = slot
    return None, [AgentArrived(agent)]


def handle_join(
    state: Membership, request: JoinRequest, now: float
) -> tuple[AgentRefusal | None, list[Action]]:
    """Process a join: `request.agent` is ready; from a member this reports a failure."""
    refusal, actions = handle_message(state, request.agent, now)
    if refusal is None and state.rendezvous is Rendezvous.CLOSED:
        refusal = AgentRefusal.CLOSED
    if refusal is not None:
        return refusal, actions
    slot = state.slot_of(request.agent)
    assert slot is not None, "its heartbeat just arrived"
    if is_answered_by(state.sealed, request) and state.rendezvous is Rendezvous.SEALED:
        return None, actions  # its answer was lost on the way
    if _overtaken(slot.waiting, request):
        return None, actions
    state.claims.pop(request.agent.index, None)
    if request.failure is not None:
        state.connectivity.doubted |= may_be_partition(request.failure)
        actions += state.failures.add(request.agent, request.last_generation, request.failure, now)
    slot.waiting = request
    mark_ended(state, [request.agent.worker])
    if state.rendezvous is Rendezvous.SEALED and member_of(state.sealed, request.agent) is not None:
        state.suspicion = True
        actions += open_generation(state, now, f"worker {request.agent.index} joined again")
    if request.agent.is_spare:  # it may take a slot, whoever else joins
        return None, actions + advance(state, now)
    return None, actions + advance_if_due(state, now)


def handle_heartbeat(
    state: Membership, word: Heartbeat, now: float
) -> tuple[AgentRefusal | None, list[Action]]:
    """Process a heartbeat: a sign of life, steps, and the end of ranks.

    A heartbeat without news leaves what time brings about to the next tick.
    """
    if word.generation is not None and word.generation.epoch > state.epoch:
        state.superseded = True
    refusal, actions = handle_message(state, word.agent, now)
    if refusal is not None:
        return refusal, actions
    due = bool(actions) or state.rendezvous is Rendezvous.UNDECIDED
    if state.rendezvous is Rendezvous.UNDECIDED:
        _claim(state, word)
    slot = state.slot_of(word.agent)
    assert slot is not None, "its heartbeat just arrived"
    current = state.rendezvous is Rendezvous.SEALED and word.generation == state.generation
    if current and member_of(state.sealed, word.agent) is not None:
        _progress(state, word)
        if word.finished or word.suspended:
            due = due or slot.ended is None
            slot.ended = RankOutcome.FINISHED if word.finished else RankOutcome.SUSPENDED
            slot.last_step = word.total_steps
    if word.leaving and not slot.leaving:
        actions += _leaves(state, slot, now)
        due = True
    if word.probed is not None and word.probed.epoch == state.epoch:
        due = state.connectivity.record_result(word.agent.pod_name, word.probed) or due
    if word.failure is not None:
        due = True
        actions += state.failures.add(word.agent, word.generation, word.failure, now)
        mark_ended(state, [word.agent.worker])
        if current:
            state.suspicion = True
            actions += open_generation(state, now, f"worker {word.agent.index} reported {word.failure.cause}")
    return None, actions + (advance_if_due(state, now) if due else [])


def handle_hang(state: Membership, agent: AgentIdentity, failure: FailureReport, now: float) -> list[Action]:
    """Break the running generation, whose ranks stand still; `agent` has the one to blame."""
    if state.rendezvous is not Rendezvous.SEALED:
        return []
    state.connectivity.doubted |= may_be_partition(failure)
    listed = state.failures.add(agent, state.generation, failure, now)
    return [*listed, *open_generation(state, now, failure.message), *advance(state, now)]


def handle_connect(
    state: Membership, agent: AgentIdentity, now: float
) -> tuple[AgentRefusal | None, list[Action]]:
    """Count an idle connection that `agent` has opened."""
    refusal, actions = handle_message(state, agent, now)
    if refusal is None:
        slot = state.slot_of(agent)
        assert slot is not None, "its heartbeat just arrived"
        slot.connections += 1
        slot.disconnected = None
    return refusal, actions


def handle_disconnect(state: Membership, agent: AgentIdentity, now: float) -> list[Action]:
    """Count the end of an idle connection; after the last one, the process is most likely gone."""
    slot = state.slot_of(agent)
    if slot is None:
        return []
    slot.connections -= 1
    if slot.connections == 0:
        slot.disconnected = now
    return []


def handle_leave(state: Membership, agent: AgentIdentity, now: float) -> list[Action]:
    """Process the departure of an agent that ends by request."""
    slot = state.slot_of(agent)
    if slot is None:
        return []
    mark_ended(state, [agent.worker])
    return mark_lost(state, slot, now, Reason.POD_DELETED, TOLD_TO_END)


def mark_ended(state: Membership, workers: Sequence[WorkerId]) -> None:
    """Record that these workers' ranks have ended, as their agents or containers show."""
    if state.alone is not None and state.alone.agent.worker in workers:
        state.alone = None


def handle_command(state: Membership, command: Command, now: float) -> list[Action]:
    """Set the operator's command; idempotent. Without running ranks a suspension is done at once."""
    state.command = command
    return advance(state, now)


def handle_resize(state: Membership, nodes: int, legal: Sequence[int], now: float) -> list[Action]:
    """Set the wanted number of nodes, and the `legal` numbers that may train.

    The generation that trains goes on until a checkpoint or a loss, whatever its size.
    """
    state.nodes, state.legal = nodes, tuple(legal)
    return advance(state, now)


def handle_checkpoint(state: Membership, now: float) -> list[Action]:
    """Resize after a durable checkpoint: now a restart with more, or fewer wanted, nodes is cheap."""
    if state.rendezvous is not Rendezvous.SEALED or state.command is not Command.NONE:
        return []
    count = find_better_count(state)
    if count == 0 or state.sealed is None:
        return []
    why = f"from this checkpoint on {count} nodes train instead of {len(state.sealed.members)}"
    return open_generation(state, now, why, goal=count)


def tick(state: Membership, now: float) -> list[Action]:
    """Advance the clock to `now`; call it several times a second."""
    late, state.ticked = now - state.ticked - state.timing.own_pause, now
    state.evicted_before = state.evicted
    if late > 0:
        extend_deadlines(state, late, now)
    actions: list[Action] = []
    for slot in find_disconnected(state, now):
        slot.disconnected = None
        actions += mark_lost(state, slot, now, Reason.AGENT_LOST, "its connection ended")
    for slot in find_silent(state, now):
        seconds = slot.silent_for(now)
        why = f"it has been silent for {seconds:.1f} s"
        actions += mark_lost(state, slot, now, Reason.AGENT_LOST, why, silent=True)
    return actions + advance(state, now)


# -- particulars -------------------------------------------------------------------


def _follow(state: Membership, old: Slot, agent: AgentIdentity, now: float) -> list[Action]:
    """Give the slot to a newer incarnation at once, unless the old one still saves its work."""
    if not state.is_saving_for(old):
        return _replace(state, old, agent, now)
    known = state.successors.get(agent.index)
    if known is not None and known.agent.worker == agent.worker:
        known.heard = now
        return []
    state.successors[agent.index] = Slot(agent, now)
    return [AgentArrived(agent)]


def _leaves(state: Membership, slot: Slot, now: float) -> list[Action]:
    """Start the departure of a slot's agent: its generation's work is saved first, if there is any."""
    member = member_of(state.sealed, slot.agent) is not None
    if state.rendezvous is Rendezvous.SEALED and member and state.step > state.step_at_seal:
        slot.leaving = True
        state.leaving[slot.agent.index] = slot
        return [AgentLeaving(slot.agent)]
    return mark_lost(state, slot, now, Reason.POD_DELETED, TOLD_TO_END)


def _replace(state: Membership, old: Slot, agent: AgentIdentity, now: float) -> list[Action]:
    state.evicted += 1
    actions: list[Action] = [AgentEvicted(old.agent)]
    actions += mark_lost(state, old, now, Reason.AGENT_LOST, f"incarnation {agent.incarnation} replaced it")
    state.claims.pop(agent.index, None)
    state.slots[agent.index] = Slot(agent, now)
    return [*actions, AgentArrived(agent)]


def _claim(state: Membership, word: Heartbeat) -> None:
    if word.generation is None or not word.members:
        return
    known = state.claimed.get(word.generation)
    if known is None:
        world_size = sum(member.agent.local_world_size for member in word.members)
        known = SealedGeneration(generation=word.generation, members=word.members, world_size=world_size)
        state.claimed[word.generation] = known
        state.quiet = 0
    state.claims[word.agent.index] = known


def _progress(state: Membership, word: Heartbeat) -> None:
    """Record finished steps; only a step with a duration counts, as a start step was merely loaded."""
    finished = [rank.step for rank in word.ranks if rank.step_seconds is not None]
    state.step = max([state.step, *finished])


def _overtaken(waiting: JoinRequest | None, request: JoinRequest) -> bool:
    """Return whether `request` is a late copy of a join older than the one that waits."""
    if waiting is None or waiting.agent.incarnation != request.agent.incarnation:
        return False
    if waiting.last_generation is None:
        return False
    return request.last_generation is None or waiting.last_generation.is_newer_than(request.last_generation)
