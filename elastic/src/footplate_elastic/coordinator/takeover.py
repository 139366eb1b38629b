"""A replaced coordinator's decision about a generation that it did not seal.

The agents train on while there is no coordinator; the next epoch knows nothing
until they speak. It must neither stop a healthy generation nor seal a second
one beside it, so it waits for a majority of the last generation, or for a time
limit, before it decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from footplate_contracts.rendezvous import SealedGeneration
from footplate_elastic.coordinator.slots import Slot, is_answered_by


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

    `waited_out` means that the time limit has passed. A generation is broken if a member has joined again,
    was replaced or is gone.
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
