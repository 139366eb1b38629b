"""Spares: agents that wait, warm, for a slot to become free.

A spare takes a lost member's slot at the moment of the loss; the generation is still sealed only when every
live member has joined again, so none can overtake a survivor. From then on it is the worker of that slot.
"""

from __future__ import annotations

from typing import Final

from footplate_elastic.coordinator.actions import Action, SparePromoted
from footplate_elastic.coordinator.slots import Slot
from footplate_elastic.coordinator.state import Membership

# A substitute that the operator may have made meanwhile must not take the slot away again: its
# number is the operator's next, so a lead keeps it behind.
LEAD: Final = 100


def list_ready_spares(state: Membership) -> list[Slot]:
    """Return the spares that wait, in order."""
    waiting = [slot for slot in state.slots.values() if slot.agent.is_spare and slot.ready]
    return sorted(waiting, key=lambda slot: slot.agent.index)


def list_vacant_slots(state: Membership, now: float | None = None) -> list[int]:
    """Return slots whose agent is lost; from `now` on also those without an agent in time.

    An agent that is merely late, at the start or behind a new coordinator, has a moment to speak first.
    """
    timing = state.timing
    late = timing.joining if state.sealed is None else timing.substitute
    unheard = now is not None and now - state.opened >= late
    return [index for index in state.missing() if index in state.slots or unheard]


def promote(state: Membership, now: float) -> list[Action]:
    """Move ready spares into vacant slots."""
    return [
        _take(state, spare, index)
        for spare, index in zip(list_ready_spares(state), list_vacant_slots(state, now), strict=False)
    ]


def _take(state: Membership, spare: Slot, index: int) -> SparePromoted:
    before = spare.agent
    newest = max(slot.agent.incarnation for slot in state.slots.values())
    after = before.model_copy(update={"index": index, "incarnation": newest + LEAD})
    assert spare.waiting is not None
    spare.waiting = spare.waiting.model_copy(update={"agent": after})
    spare.agent = after
    del state.slots[before.index]
    state.slots[index] = spare
    state.aliases[before.worker] = after
    state.evicted += 1
    return SparePromoted(before, after)
