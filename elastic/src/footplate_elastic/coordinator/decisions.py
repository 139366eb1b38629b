"""What follows from the state alone: adopt, seal, open, close.

`advance` is called after every event and every tick, and does the one thing
that the stage of the gang allows, if anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from footplate_contracts.directives import Command
from footplate_contracts.reports import GenerationId, RunState, SealedGeneration
from footplate_elastic.coordinator import takeover
from footplate_elastic.coordinator.actions import Action, Adopted, Closed, Opened, Sealed
from footplate_elastic.coordinator.places import Ended, Place, seats
from footplate_elastic.coordinator.size import chosen, count_of, patience
from footplate_elastic.coordinator.spares import stand_in
from footplate_elastic.coordinator.state import Membership, Stage
from footplate_elastic.coordinator.timing import hold_seconds


def advance(state: Membership, now: float) -> list[Action]:
    """The decision that is due."""
    if state.stage is Stage.UNDECIDED:
        return _decide(state, now)
    if state.stage is Stage.OPEN:
        if state.command is Command.CHECKPOINT_AND_EXIT:
            return _close(state, RunState.SUSPENDED)
        return [*stand_in(state, now), *_seal(state, now)]
    if state.stage is Stage.SEALED:
        return _finish(state, now)
    return []


def _decide(state: Membership, now: float) -> list[Action]:
    waited_out = now - state.opened >= state.timing.adoption
    decision = takeover.judge(state.claims, state.places, state.nodes, waited_out)
    last = takeover.newest(state.claims)
    if decision is takeover.Takeover.WAIT:
        return []
    state.claims.clear()
    if decision is takeover.Takeover.OPEN or last is None:
        state.sealed = last
        return [
            *open_generation(state, now, "the last generation is broken or unknown"),
            *advance(state, now),
        ]
    state.sealed = last
    state.stage = Stage.SEALED
    state.step_at_seal = state.step
    for member in last.members:
        if member.agent.index not in state.places:
            # It may still be looking for us: as long as the rest of the time limit, at least.
            benefit = state.opened + state.timing.adoption - state.timing.silence
            state.places[member.agent.index] = Place(member.agent, max(now, benefit))
    return [Adopted(last)]


def _seal(state: Membership, now: float) -> list[Action]:
    ready = sum(place.ready and place.agent.index < state.nodes for place in state.places.values())
    count = count_of(ready, state.nodes, state.legal)
    if count == 0 or now - state.opened < max(hold_seconds(state.barren), patience(state, count)):
        return []
    training = chosen(state, count)
    if any(place.silent_for(now) > state.timing.silence for place in training):
        return []
    number = state.generation.number if state.generation and state.generation.epoch == state.epoch else 0
    members = seats([place.waiting for place in training if place.waiting is not None])
    state.sealed = SealedGeneration(
        generation=GenerationId(epoch=state.epoch, number=number + 1),
        members=members,
        world_size=sum(member.agent.slots for member in members),
        limits=state.limits,
    )
    state.stage = Stage.SEALED
    state.suspicion = False
    state.step_at_seal = state.step
    for place in state.places.values():
        place.ended = None
    for place in training:
        place.waiting = None
    return [Sealed(state.sealed)]


def open_generation(state: Membership, now: float, why: str, goal: int | None = None) -> list[Action]:
    """Break the running generation, if any, and let everybody join; `goal`: see Membership."""
    state.goal = goal or (len(state.sealed.members) if state.sealed else state.nodes)
    if state.stage is Stage.SEALED:
        state.barren = 0 if state.step > state.step_at_seal else state.barren + 1
    state.stage = Stage.OPEN
    state.opened = now
    for place in state.places.values():
        place.ended = None
    return [Opened(state.generation, why)]


def _finish(state: Membership, now: float) -> list[Action]:
    assert state.sealed is not None
    places = [state.places[member.agent.index] for member in state.sealed.members]
    if any(place.ended is None for place in places):
        return []
    finished = all(place.ended is Ended.FINISHED for place in places)
    more = more_to_do(state, places) if finished else 0
    if more:
        # The ranks had ended when they were told: they go on from their last checkpoint.
        why = f"the run goes on to step {more}"
        return [*open_generation(state, now, why), *advance(state, now)]
    return _close(state, RunState.FINISHED if finished else RunState.SUSPENDED)


def more_to_do(state: Membership, ended: Sequence[Place]) -> int:
    """The last step that is asked for now where ranks `ended` with an earlier one; else 0."""
    last = state.limits.steps if state.limits else 0
    return last if any(place.last_step is not None and place.last_step < last for place in ended) else 0


def _close(state: Membership, outcome: RunState) -> list[Action]:
    state.stage = Stage.CLOSED
    state.outcome = outcome
    return [Closed(outcome)]
