"""The number of nodes that train: as many as are wanted, or fewer where the run allows it.

A restart costs seconds and the steps since the last checkpoint, an idle node costs its share of every step.
So a lost slot is awaited for a while, and only then do fewer go on; and an agent that comes later waits for
the next checkpoint, where a restart costs no step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from footplate_elastic.coordinator.slots import Slot, member_of
from footplate_elastic.coordinator.spares import list_ready_spares, list_vacant_slots
from footplate_elastic.coordinator.state import Membership

# (fewest, most) -> the numbers of nodes between them that may train, ascending.
LegalSizes = Callable[[int, int], tuple[int, ...]]

_NEAR: Final = 64  # nodes around a size that cannot train, among which others are looked for
_SHOWN: Final = 4


def describe_refusal(nodes: int, min_nodes: int | None, legal_sizes: LegalSizes) -> str:
    """Return the message where no number of nodes in the range can train, with the nearest that can."""
    near = legal_sizes(max(1, nodes - _NEAR), nodes + _NEAR)
    nearest = sorted(sorted(near, key=lambda count: abs(count - nodes))[:_SHOWN])
    shown = ", ".join(map(str, nearest)) or "none"
    return (
        f"compute.nodes: no number of nodes from {min_nodes or nodes} to {nodes} fits spec.parallelism;"
        f" the nearest that fit: {shown}"
    )


def choose_count(ready: int, nodes: int, legal: Sequence[int]) -> int:
    """Return how many of `ready` agents train where `nodes` are wanted; 0 if it is too early.

    Where no number of at most `nodes` is legal, the result is `nodes`: the ranks report why that cannot work.
    """
    fitting = [count for count in legal if count <= min(ready, nodes)]
    if fitting:
        return max(fitting)
    return nodes if ready >= nodes else 0


def list_wanted_slots(state: Membership) -> list[Slot]:
    """Return the live slots that the run should have."""
    return [slot for slot in state.slots.values() if not slot.lost and slot.agent.index < state.nodes]


def get_wait_seconds(state: Membership, count: int) -> float:
    """Return the seconds after its opening for which a generation of `count` nodes waits for more."""
    joined = sum(slot.ready for slot in list_wanted_slots(state))
    if joined >= state.nodes:
        return 0.0
    if state.sealed is None or joined < len(list_wanted_slots(state)):
        return state.timing.joining
    return 0.0 if count >= state.goal else state.timing.substitute


def choose_slots(state: Membership, count: int) -> list[Slot]:
    """Return the `count` ready slots that train: former members first, then by index."""
    joined = [slot for slot in list_wanted_slots(state) if slot.ready]
    joined.sort(key=lambda slot: (member_of(state.sealed, slot.agent) is None, slot.agent.index))
    return joined[:count]


def find_better_count(state: Membership) -> int:
    """Return how many nodes should train from this checkpoint on; 0 if the current ones go on."""
    assert state.sealed is not None
    training = [state.slots.get(member.agent.index) for member in state.sealed.members]
    if any(slot is None or slot.ended is not None for slot in training):
        return 0
    members = frozenset(training)
    staying = [slot for slot in list_wanted_slots(state) if slot in members]
    coming = [slot for slot in list_wanted_slots(state) if slot.ready and slot not in members]
    promoted = min(len(list_ready_spares(state)), len(list_vacant_slots(state)))
    count = choose_count(len(staying) + len(coming) + promoted, state.nodes, state.legal)
    return 0 if count == len(training) == len(staying) else count
