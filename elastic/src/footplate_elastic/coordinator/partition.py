"""Network partitions among live members: one of two that do not reach each other loses its slot.

Agents are probed only when a generation was broken as it would be by a partition (a connection was lost, or
all stood still) and nothing else explains it, or when it was broken before this coordinator came. Then none
is sealed before its members have reported which of their peers they reach.

An agent that gives up its slot stays where it is until another one has that slot. Meanwhile it is probed
again and again, also while fewer train without it, and where it reaches all before that, it is taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from footplate_contracts.connectivity_probes import ConnectivityProbe, Peer
from footplate_contracts.coordinator_state import UnreachablePair
from footplate_contracts.rendezvous import AgentIdentity
from footplate_elastic.coordinator.actions import Action, AgentArrived, AgentUnreachable
from footplate_elastic.coordinator.connectivity import Pair, choose_displaced
from footplate_elastic.coordinator.slots import Slot
from footplate_elastic.coordinator.state import Membership

_LISTED: Final = 32  # the contract's maximum
_SHOWN: Final = 3


def examine(state: Membership, now: float) -> list[Action]:
    """Act on a round that has its answers; probe again the agents that gave up their slots."""
    here = _here(state, now)
    if state.connectivity.conclude(here, now):
        return _judge(state, here)
    if any(slot.unreachable for slot in here.values()):
        state.connectivity.begin(_peers(here), now)
    return []


def examine_again(state: Membership, now: float) -> list[Action]:
    """Take back, while others train, an agent that gave up its slot and reaches all of them now."""
    if not any(slot.unreachable for slot in state.slots.values()):
        return []
    gone = {pod: slot for pod, slot in _here(state, now).items() if slot.unreachable}
    members = state.sealed.members if state.sealed is not None else []
    training = {
        member.agent.pod_name: _peer(member.agent, member.store_port)
        for member in members
        if member.agent.pod_name not in gone
    }
    if state.connectivity.conclude(gone, now):
        return _taken_back(state, gone, training)
    if gone:
        state.connectivity.begin(training | _peers(gone), now, gone)
    return []


def must_wait(state: Membership, training: Sequence[Slot], now: float) -> bool:
    """Return whether `training` may not be sealed yet, as their connectivity is not known."""
    known = state.connectivity
    if not known.doubted or len(training) < 2 or known.is_inconclusive:
        return False
    if state.generation is not None and state.failures.has_other_cause(state.generation):
        return False
    if known.are_connected({slot.agent.pod_name for slot in training}):
        return False
    known.begin(_peers(_here(state, now)), now)
    return True


def probe_for(state: Membership, agent: AgentIdentity) -> ConnectivityProbe | None:
    """Return the probe that `agent` has to answer now; None without one."""
    asked = state.connectivity.find_pending_round(agent.pod_name)
    if asked is None:
        return None
    others = [peer for pod, peer in asked.peers.items() if pod != agent.pod_name]
    return ConnectivityProbe(number=asked.number, peers=others)


def list_unreachable_pairs(state: Membership) -> list[UnreachablePair]:
    """Return agents that do not reach each other, at most 32 pairs."""
    return [UnreachablePair(one=lower, other=higher) for lower, higher in _agents(state)[:_LISTED]]


# -- particulars -------------------------------------------------------------------


def _here(state: Membership, now: float) -> dict[str, Slot]:
    """Return slots that wait for the next generation, also displaced ones, by pod name."""
    return {
        slot.agent.pod_name: slot
        for slot in state.slots.values()
        if slot.waiting is not None
        and (slot.ready or slot.unreachable)
        and slot.disconnected is None
        and slot.silent_for(now) <= state.timing.silence
    }


def _peers(here: Mapping[str, Slot]) -> dict[str, Peer]:
    return {
        pod: _peer(slot.agent, slot.waiting.store_port)
        for pod, slot in here.items()
        if slot.waiting is not None
    }


def _peer(agent: AgentIdentity, port: int) -> Peer:
    return Peer(pod_name=agent.pod_name, address=agent.address, port=port)


def _taken_back(state: Membership, here: Mapping[str, Slot], others: Collection[str]) -> list[Action]:
    """Take back the displaced agents of `here` that reach all `others` again."""
    actions: list[Action] = []
    for pod, slot in here.items():
        if slot.unreachable and not state.connectivity.may_be_cut_off(pod, others):
            slot.unreachable, slot.lost = False, ""
            actions.append(AgentArrived(slot.agent))
    return actions


def _judge(state: Membership, here: Mapping[str, Slot]) -> list[Action]:
    known = state.connectivity
    slots = sorted(state.slots.values(), key=lambda slot: slot.agent.index)
    examined = [slot for slot in slots if slot.unreachable or slot.agent.pod_name in here]
    workers = [slot.agent.pod_name for slot in examined if slot.agent.index < state.nodes]
    spares = [slot.agent.pod_name for slot in examined if slot.agent.is_spare]
    gone = {slot.agent.pod_name for slot in examined if slot.unreachable}
    going = set(choose_displaced(known.cut, workers, spares, known.complaints, gone))
    staying = set(workers) - going
    going |= {spare for spare in spares if going and any({spare, pod} in known.cut for pod in staying)}
    actions: list[Action] = []
    for slot in examined:
        pod = slot.agent.pod_name
        if pod in going and not slot.unreachable:
            slot.unreachable, slot.lost = True, f"it cannot reach {_names(_cut_from(state, pod))}"
            actions.append(AgentUnreachable(slot.agent, slot.lost))
    free = {pod: slot for pod, slot in here.items() if pod not in going}
    actions += _taken_back(state, free, staying)
    return [*actions, *_explain(state, [slot.agent for slot in examined if slot.unreachable])]


def _explain(state: Membership, gone: Sequence[AgentIdentity]) -> list[Action]:
    """List the partition as the cause of the last generation's end, where no other is known."""
    found = _agents(state)
    if not found or state.generation is None:
        return []
    said = [f"{_name(lower)} and {_name(higher)} cannot reach each other" for lower, higher in found[:_SHOWN]]
    whose = [agent for agent in gone if not agent.is_spare]
    if whose:
        said.append(f"{_names(whose)} should move to another node")
    return [*state.failures.list_partition(state.generation, whose[0] if whose else None, "; ".join(said))]


def _cut_from(state: Membership, pod: str) -> list[AgentIdentity]:
    return [
        higher if lower.pod_name == pod else lower
        for lower, higher in _agents(state)
        if pod in (lower.pod_name, higher.pod_name)
    ]


def _agents(state: Membership) -> list[tuple[AgentIdentity, AgentIdentity]]:
    agents = {slot.agent.pod_name: slot.agent for slot in state.slots.values()}
    known = (_ordered(pair, agents) for pair in state.connectivity.cut if pair <= agents.keys())
    return sorted(known, key=lambda pair: (pair[0].index, pair[1].index))


def _ordered(pair: Pair, agents: Mapping[str, AgentIdentity]) -> tuple[AgentIdentity, AgentIdentity]:
    lower, higher = sorted((agents[pod] for pod in pair), key=lambda agent: agent.index)
    return lower, higher


def _names(agents: Iterable[AgentIdentity]) -> str:
    return ", ".join(_name(agent) for agent in list(agents)[:_SHOWN])


def _name(agent: AgentIdentity) -> str:
    who = "the spare" if agent.is_spare else f"worker {agent.index}"
    where = f" on node {agent.node_name}" if agent.node_name else ""
    return f"{who} ({agent.pod_name}{where})"
