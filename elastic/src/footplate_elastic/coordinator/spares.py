"""Spares: agents that wait, warm, for a place to become free.

One takes the place of a lost member in the moment of the loss; the generation is
still sealed only when every live member has joined again, so none can overtake
a survivor. From then on it is the worker of that place.
"""

from __future__ import annotations

from typing import Final

from footplate_elastic.coordinator.actions import Action, StoodIn
from footplate_elastic.coordinator.places import Place
from footplate_elastic.coordinator.state import Membership

# A substitute that the operator may have made meanwhile must not take the place away again: its
# number is the operator's next, so a lead keeps it behind.
LEAD: Final = 100


def ready(state: Membership) -> list[Place]:
    """Spares that wait, in order."""
    waiting = [place for place in state.places.values() if place.agent.spare and place.ready]
    return sorted(waiting, key=lambda place: place.agent.index)


def vacant(state: Membership, now: float | None = None) -> list[int]:
    """Places whose agent is lost; from `now` on also those that nobody has spoken for in time.

    Whoever is merely late, at the start or behind a new coordinator, has a
    moment to speak first.
    """
    timing = state.timing
    late = timing.joining if state.sealed is None else timing.substitute
    unheard = now is not None and now - state.opened >= late
    return [index for index in state.missing() if index in state.places or unheard]


def stand_in(state: Membership, now: float) -> list[Action]:
    """Ready spares take vacant places."""
    return [
        _take(state, spare, index) for spare, index in zip(ready(state), vacant(state, now), strict=False)
    ]


def _take(state: Membership, spare: Place, index: int) -> StoodIn:
    before = spare.agent
    newest = max(place.agent.incarnation for place in state.places.values())
    after = before.model_copy(update={"index": index, "incarnation": newest + LEAD})
    assert spare.waiting is not None
    spare.waiting = spare.waiting.model_copy(update={"agent": after})
    spare.agent = after
    del state.places[before.index]
    state.places[index] = spare
    state.aliases[before.worker] = after
    return StoodIn(before, after)
