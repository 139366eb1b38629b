"""Decisions that follow from the state alone: adopt, seal, open, close.

`advance` is called after every event and every tick, and does the one thing
that the state of the rendezvous allows, if anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Command
from footplate_contracts.names import Reason
from footplate_contracts.rendezvous import SealedGeneration
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator import partition
from footplate_elastic.coordinator.actions import (
    TOLD_TO_END,
    Action,
    GenerationAdopted,
    GenerationStarted,
    MemberLost,
    RendezvousOpened,
    RunClosed,
)
from footplate_elastic.coordinator.gang_size import (
    choose_count,
    choose_slots,
    get_wait_seconds,
    list_wanted_slots,
)
from footplate_elastic.coordinator.slots import RankOutcome, Slot, is_answered_by
from footplate_elastic.coordinator.spares import promote
from footplate_elastic.coordinator.state import Membership, Rendezvous
from footplate_elastic.coordinator.timing import hold_seconds

SAVED: Final = f"{TOLD_TO_END}, and left after all ranks had saved"


def advance(state: Membership, now: float) -> list[Action]:
    """Make the decision that is due and return its actions."""
    state.quiet = 0
    if state.rendezvous is Rendezvous.UNDECIDED:
        return _decide(state, now)
    if state.rendezvous is Rendezvous.OPEN:
        if state.command is Command.CHECKPOINT_AND_EXIT:
            state.unheard = _unheard(state)
            return _close(state, RunState.SUSPENDED)
        return [*partition.examine(state, now), *promote(state, now), *_seal(state, now)]
    if state.rendezvous is Rendezvous.SEALED:
        return [*partition.examine_again(state, now), *_finish(state, now)]
    return []


def advance_if_due(state: Membership, now: float) -> list[Action]:
    """Advance after an agent's message, if that message may have made a decision due.

    A look at all agents after each message would be quadratic in agents.
    """
    if state.quiet > 0:
        state.quiet -= 1
        return []
    return advance(state, now)


def _decide(state: Membership, now: float) -> list[Action]:
    waited_out = now - state.opened >= state.timing.adoption
    decision = decide_takeover(state.claims, state.slots, state.nodes, waited_out)
    last = find_newest_claim(state.claims)
    if decision is TakeoverDecision.WAIT:
        state.quiet = count_lacking(state.claims, state.slots, state.nodes) - 1
        return []
    state.claims.clear()
    state.claimed.clear()
    if decision is TakeoverDecision.OPEN or last is None:
        state.sealed = last
        for member in last.members if last else ():
            # All others have spoken by now: whoever has not is silent since we listen.
            state.slots.setdefault(member.agent.index, Slot(member.agent, state.opened))
        state.alone = _alone(state)
        state.connectivity.doubted = last is not None  # an earlier coordinator may have known why
        return [
            *open_generation(state, now, "the last generation is broken or unknown"),
            *advance(state, now),
        ]
    state.sealed = last
    state.rendezvous = Rendezvous.SEALED
    state.step_at_seal = state.step
    for member in last.members:
        if member.agent.index not in state.slots:
            # It may still be looking for us: as long as the rest of the time limit, at least.
            benefit = state.opened + state.timing.adoption - state.timing.silence
            state.slots[member.agent.index] = Slot(member.agent, max(now, benefit))
    state.alone = _alone(state)
    return [GenerationAdopted(last)]


def _seal(state: Membership, now: float) -> list[Action]:
    ready = sum(slot.ready and slot.agent.index < state.nodes for slot in state.slots.values())
    count = choose_count(ready, state.nodes, state.legal)
    state.quiet = _lacking(state, ready, now) - 1
    if ready < state.nodes and _may_be_replaced(state, now):
        return []
    if count == 0 or now - state.opened < max(hold_seconds(state.fruitless), get_wait_seconds(state, count)):
        return []
    training = choose_slots(state, count)
    if any(slot.silent_for(now) > state.timing.silence for slot in training):
        return []
    if partition.must_wait(state, training, now) or _may_train_still(state, training, now):
        return []
    number = state.generation.number if state.generation and state.generation.epoch == state.epoch else 0
    members = state.rank_order.members([slot.waiting for slot in training if slot.waiting is not None])
    state.sealed = SealedGeneration(
        generation=GenerationId(epoch=state.epoch, number=number + 1),
        members=members,
        world_size=sum(member.agent.local_world_size for member in members),
        limits=state.limits,
    )
    state.rendezvous = Rendezvous.SEALED
    state.suspicion = False
    state.step_at_seal = state.step
    for slot in state.slots.values():
        slot.ended = None
    for slot in training:
        slot.waiting = None
    state.alone = training[0] if len(training) == 1 else None
    state.connectivity.reset({slot.agent.pod_name for slot in state.slots.values()})
    return [GenerationStarted(state.sealed)]


def _lacking(state: Membership, ready: int, now: float) -> int:
    """Return how many more messages, at least, are needed before a generation can be sealed at `now`."""
    passed, all_nodes = now - state.opened, state.nodes - ready
    if passed >= state.timing.joining:
        return min(all_nodes, state.legal[0] - ready)
    if state.sealed is None:
        return all_nodes
    late = len(list_wanted_slots(state)) - ready
    return min(all_nodes, late if passed >= state.timing.substitute else max(late, state.goal - ready))


def _alone(state: Membership) -> Slot | None:
    """Return the slot of a generation with one member, unless another agent has that slot now."""
    members = state.sealed.members if state.sealed else []
    return state.slot_of(members[0].agent) if len(members) == 1 else None


def _may_be_replaced(state: Membership, now: float) -> bool:
    """Return whether our successor may gather the others; agents cut off with us have to wait."""
    return state.polled is not None and now - state.polled > state.timing.operator


def _may_train_still(state: Membership, training: Sequence[Slot], now: float) -> bool:
    """Return whether a generation of one may still train beside the one about to be sealed.

    A larger generation is held back by those of its members that are here. A generation of one holds itself
    back once its agent has had no answer from a coordinator for a while. Until then no other one begins,
    unless it is known to have ended.
    """
    alone = state.alone
    if alone is None or alone in training:
        return False
    return now < min(alone.heard, state.opened) + state.timing.lease


def open_generation(state: Membership, now: float, why: str, goal: int | None = None) -> list[Action]:
    """Break the running generation, if any, and let all agents join; `goal`: see Membership."""
    state.quiet = 0
    state.goal = goal or (len(state.sealed.members) if state.sealed else state.nodes)
    if state.rendezvous is Rendezvous.SEALED:
        state.fruitless = 0 if state.step > state.step_at_seal else state.fruitless + 1
    state.rendezvous = Rendezvous.OPEN
    state.opened = now
    if state.alone is not None and state.alone.ended is not None:
        state.alone = None  # its ranks have ended well
    for slot in state.slots.values():
        slot.ended = None
        if slot.leaving:
            slot.lost = slot.lost or TOLD_TO_END
            slot.waiting = None
    state.leaving.clear()
    for index, successor in state.successors.items():
        state.slots[index] = successor
    state.successors.clear()
    return [RendezvousOpened(state.generation, why)]


def _finish(state: Membership, now: float) -> list[Action]:
    assert state.sealed is not None
    slots = [state.slots[member.agent.index] for member in state.sealed.members]
    training = sum(slot.ended is None for slot in slots)
    if training:
        state.quiet = training - 1
        return []
    finished = all(slot.ended is RankOutcome.FINISHED for slot in slots)
    more = get_extended_end(state, slots) if finished else 0
    if more:
        # The ranks had ended when they were told: they go on from their last checkpoint.
        why = f"the run continues to step {more}"
        return [*open_generation(state, now, why), *advance(state, now)]
    if not finished and state.command is not Command.CHECKPOINT_AND_EXIT:
        leaving = [slot.agent for slot in slots if slot.leaving]
        lost = [MemberLost(agent, state.generation, Reason.POD_DELETED, SAVED) for agent in leaving]
        why = "all ranks have saved" if leaving else "the suspension was withdrawn"
        return [*lost, *open_generation(state, now, why), *advance(state, now)]
    return _close(state, RunState.FINISHED if finished else RunState.SUSPENDED)


def get_extended_end(state: Membership, ended: Sequence[Slot]) -> int:
    """Return the last step that is wanted now where ranks `ended` with an earlier one; else 0."""
    last = state.limits.steps if state.limits else 0
    return last if any(slot.last_step is not None and slot.last_step < last for slot in ended) else 0


def _unheard(state: Membership) -> bool:
    """Return whether no member of the newest generation reported its last step, or none is known."""
    if state.sealed is None:
        return state.epoch > 1 and not any(slot.waiting for slot in state.slots.values())
    slots = [state.slot_of(member.agent) for member in state.sealed.members]
    return not any(slot is not None and slot.waiting is not None for slot in slots)


def _close(state: Membership, outcome: RunState) -> list[Action]:
    state.rendezvous = Rendezvous.CLOSED
    state.outcome = outcome
    return [RunClosed(outcome)]


class TakeoverDecision(Enum):
    """Decision about the last generation."""

    WAIT = "wait"
    ADOPT = "adopt"
    OPEN = "open"


def find_newest_claim(claims: Mapping[int, SealedGeneration]) -> SealedGeneration | None:
    """Return the newest generation that any agent reports as running; `claims` by agent index."""
    return max(
        claims.values(), key=lambda sealed: (sealed.generation.epoch, sealed.generation.number), default=None
    )


def count_lacking(claims: Mapping[int, SealedGeneration], slots: Mapping[int, Slot], nodes: int) -> int:
    """Return how many messages, at least, `decide_takeover` still waits for, unless the generation breaks."""
    last = find_newest_claim(claims)
    joining = nodes - sum(slot.ready and slot.agent.index < nodes for slot in slots.values())
    if last is None:
        return joining
    heard = sum(member.agent.index in slots for member in last.members)
    running = sum(claim.generation == last.generation for claim in claims.values())
    known = running if heard * 2 > len(last.members) else heard
    return min(joining, len(last.members) // 2 + 1 - known)


def decide_takeover(
    claims: Mapping[int, SealedGeneration], slots: Mapping[int, Slot], nodes: int, waited_out: bool
) -> TakeoverDecision:
    """Adopt the newest claimed generation, open a new one, or wait.

    Agents train on without a coordinator, and the next epoch knows nothing until they speak: it must neither
    stop a healthy generation nor seal a second one beside it. So it waits for a majority of the last
    generation, or until `waited_out`: the time limit has passed. A generation is broken if a member has
    joined again, was replaced or is gone.
    """
    if sum(slot.ready and slot.agent.index < nodes for slot in slots.values()) == nodes:
        return TakeoverDecision.OPEN  # everybody waits to start: nothing can be running
    last = find_newest_claim(claims)
    if last is None:
        return TakeoverDecision.OPEN if waited_out else TakeoverDecision.WAIT
    heard = running = 0
    broken = False
    for member in last.members:
        slot = slots.get(member.agent.index)
        if slot is None:
            continue
        heard += 1
        claim = claims.get(member.agent.index)
        running += claim is not None and claim.generation == last.generation
        replaced = slot.agent.incarnation > member.agent.incarnation
        rejoined = slot.waiting is not None and not is_answered_by(last, slot.waiting)
        broken = broken or replaced or rejoined or bool(slot.lost)
    if heard * 2 <= len(last.members) and not waited_out:
        return TakeoverDecision.WAIT
    if broken:
        return TakeoverDecision.OPEN
    if running * 2 > len(last.members):
        return TakeoverDecision.ADOPT
    # Fewer than half are heard: rather our own network than theirs.
    return TakeoverDecision.OPEN if waited_out and heard * 2 >= len(last.members) else TakeoverDecision.WAIT
