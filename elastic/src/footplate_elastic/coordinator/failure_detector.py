"""When an agent is held to be gone, and what that does to its generation.

Being wrong here is cheap: an agent that speaks again is back, and has lost the
work since the last checkpoint. So evidence acts at once, and only silence,
which may be ours, is weighed.
"""

from __future__ import annotations

from footplate_contracts.names import Reason
from footplate_elastic.coordinator.actions import Action, Lost
from footplate_elastic.coordinator.decisions import open_generation
from footplate_elastic.coordinator.places import Place, member_of
from footplate_elastic.coordinator.state import Membership, Stage


def lose(state: Membership, place: Place, now: float, reason: Reason, why: str) -> list[Action]:
    """Hold the agent to be gone until it speaks again, and break its generation.

    An agent whose ranks have all ended is not needed any more.
    """
    if place.lost or state.stage is Stage.CLOSED:
        return []
    place.lost = why
    place.waiting = None
    state.claims.pop(place.agent.index, None)
    if member_of(state.sealed, place.agent) is None or place.ended is not None:
        return []
    lost = Lost(place.agent, state.generation, reason, why)
    if state.stage is not Stage.SEALED:
        return [lost]
    return [lost, *open_generation(state, now, f"worker {place.agent.index} is lost: {why}")]


def unplugged_too_long(state: Membership, now: float) -> list[Place]:
    """Agents whose idle connection ended and did not come back.

    A word that arrives well after the end cannot be one that a dying process
    had still on its way: the process lives, and only its connection broke.
    """
    grace = state.timing.connection
    gone: list[Place] = []
    for place in state.places.values():
        if place.unplugged is None or now - place.unplugged < grace:
            continue
        if place.heard > place.unplugged + grace / 2:
            place.unplugged = None
        else:
            gone.append(place)
    return gone


def is_suspect(state: Membership, place: Place) -> bool:
    """Whether silence of this live agent is suspect: every member was just told to join again."""
    told = state.stage is Stage.OPEN and state.suspicion and member_of(state.sealed, place.agent) is not None
    return told and place.waiting is None


def too_silent(state: Membership, now: float) -> list[Place]:
    """Live agents whose silence counts as loss.

    Where fewer than half are heard the silence is more likely ours: nobody is
    judged then.
    """
    living = [place for place in state.places.values() if not place.lost]
    audible = sum(place.silent_for(now) <= state.timing.silence for place in living)
    if audible * 2 < len(living) or state.stage in (Stage.CLOSED, Stage.UNDECIDED):
        return []
    silent = [place for place in living if place.silent_for(now) > state.timing.silence]
    silent += [
        place
        for place in living
        if place not in silent
        and is_suspect(state, place)
        and now - max(place.heard, state.opened) > state.timing.suspect
    ]
    return silent
