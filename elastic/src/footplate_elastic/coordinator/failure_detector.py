"""Failure detection: when an agent counts as lost, and what that does to its generation.

Being wrong here is cheap: an agent that speaks again is back, and has lost the work since the last
checkpoint. So evidence acts at once, and only silence, which may be ours, is weighed: time in which we did
not run, or read only part of what was sent to us, counts for no agent.
"""

from __future__ import annotations

from footplate_contracts.coordinator_state import MissedAgent, Verdict
from footplate_contracts.names import Reason
from footplate_contracts.rendezvous import AgentIdentity
from footplate_elastic.coordinator.actions import Action, MemberLost
from footplate_elastic.coordinator.decisions import open_generation
from footplate_elastic.coordinator.slots import Slot, member_of
from footplate_elastic.coordinator.state import Membership, Rendezvous
from footplate_elastic.protocol import wire


def mark_lost(
    state: Membership, slot: Slot, now: float, reason: Reason, why: str, silent: bool = False
) -> list[Action]:
    """Mark the agent lost until it speaks again, and break its generation.

    An agent whose ranks have all ended is not needed any more. `silent`: its silence is the only evidence.
    """
    if (slot.lost and not slot.unreachable) or state.rendezvous is Rendezvous.CLOSED:
        return []
    known = slot.unreachable
    slot.lost, slot.silent, slot.unreachable = why, silent, False
    slot.waiting = None
    state.leaving.pop(slot.agent.index, None)
    state.claims.pop(slot.agent.index, None)
    if known or member_of(state.sealed, slot.agent) is None or slot.ended is not None:
        return []
    lost = MemberLost(slot.agent, state.generation, reason, why)
    if state.rendezvous is not Rendezvous.SEALED:
        return [lost]
    return [lost, *open_generation(state, now, f"worker {slot.agent.index} is lost: {why}")]


def extend_deadlines(state: Membership, late: float, now: float) -> None:
    """Extend all deadlines by a tick's delay of `late` seconds, in which no agent could be heard."""
    state.late = now
    state.opened = min(now, state.opened + late)
    for slot in (*state.slots.values(), *state.successors.values()):
        excused = min(late, now - slot.heard)
        slot.heard += excused
        slot.excused += excused
        if slot.disconnected is not None:
            slot.disconnected = min(now, slot.disconnected + late)


def _late(state: Membership, now: float) -> bool:
    """Return whether a tick was late a moment ago, so that agents may have waited for our answers."""
    return now - state.late < state.timing.silence


def find_disconnected(state: Membership, now: float) -> list[Slot]:
    """Return the slots whose idle connection ended and did not come back.

    A message that arrives well after the end cannot be one that a dying process had still on its way: the
    process lives, and only its connection broke. Where we were late the agent may have closed its connection
    itself, and opens another one.
    """
    grace = state.timing.late_connection if _late(state, now) else state.timing.connection
    gone: list[Slot] = []
    for slot in state.slots.values():
        if slot.disconnected is None or now - slot.disconnected < grace:
            continue
        if slot.heard > slot.disconnected + grace / 2:
            slot.disconnected = None
        else:
            gone.append(slot)
    return gone


def _counts(state: Membership, slot: Slot, now: float) -> bool:
    """Return whether a slot's silence is evidence against its agent.

    Not where we were late for most of it: an agent abandons a request that is not answered in time, and what
    we come to read then is a closed connection. Nor where we heard hardly any agent a moment ago: the first
    of those that a recovering network brings back.
    """
    return now - state.deaf > state.timing.silence and slot.silent_for(now) > slot.excused


def is_suspect(state: Membership, slot: Slot) -> bool:
    """Return whether this live agent's silence is suspect: every member was just told to join again."""
    told = (
        state.rendezvous is Rendezvous.OPEN
        and state.suspicion
        and member_of(state.sealed, slot.agent) is not None
    )
    return told and slot.waiting is None


def heartbeat_wait_seconds(state: Membership, agent: AgentIdentity) -> float:
    """Return the seconds after which a heartbeat from `agent` is answered without news.

    An agent that has to join again, and first stops its ranks, sends often meanwhile.
    """
    slot = state.slots.get(state.resolve_identity(agent).index)
    suspect = slot is not None and is_suspect(state, slot)
    return wire.SUSPECT_SECONDS if suspect else wire.HEARTBEAT_SECONDS


def find_suspects(state: Membership, now: float) -> list[Slot]:
    """Return the slots that are silent for longer than a live agent should be, and not yet lost."""
    if state.rendezvous in (Rendezvous.CLOSED, Rendezvous.UNDECIDED):
        return []
    return [
        slot for slot in state.slots.values() if not slot.lost and slot.silent_for(now) > state.timing.silence
    ]


def find_missed_agents(state: Membership, now: float) -> list[MissedAgent]:
    """Return the agents that had a slot and are not heard."""
    lost = [slot for slot in state.slots.values() if slot.lost]
    found = [(slot, _verdict(slot)) for slot in lost]
    found += [(slot, Verdict.SUSPECT) for slot in find_suspects(state, now)]
    return [
        MissedAgent(agent=slot.agent, verdict=verdict, seconds=round(slot.silent_for(now), 1))
        for slot, verdict in found
    ]


def _verdict(slot: Slot) -> Verdict:
    if slot.unreachable:
        return Verdict.UNREACHABLE
    return Verdict.SILENT if slot.silent else Verdict.ENDED


def find_silent(state: Membership, now: float) -> list[Slot]:
    """Return the live slots whose silence counts as loss.

    Where fewer than half are heard the silence is more likely ours: then only those count as lost whose pods
    Kubernetes reports as gone as well. The same holds for agents whose messages we had no time for, or that
    we could not hear a moment ago.
    """
    if state.rendezvous in (Rendezvous.CLOSED, Rendezvous.UNDECIDED):
        return []
    living, silent = [slot for slot in state.slots.values() if not slot.lost], find_suspects(state, now)
    if len(silent) * 2 > len(living):
        state.deaf = now
        return [slot for slot in silent if slot.agent.worker in state.gone]
    silent = [slot for slot in silent if _counts(state, slot, now) or slot.agent.worker in state.gone]
    known = frozenset(silent)
    silent += [
        slot
        for slot in living
        if slot not in known
        and not _late(state, now)
        and is_suspect(state, slot)
        and now - max(slot.heard, state.opened) > state.timing.suspect
    ]
    return silent
