"""The coordinator's state of the gang, as one record that only decisions change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.names import WorkerId
from footplate_contracts.rendezvous import AgentIdentity, SealedGeneration
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator.connectivity import Connectivity
from footplate_elastic.coordinator.failures import FailureLog
from footplate_elastic.coordinator.rank_order import RankOrder
from footplate_elastic.coordinator.slots import Slot
from footplate_elastic.coordinator.timing import Timing


class Rendezvous(Enum):
    """Phase of the rendezvous: the gang gathers, trains or is done."""

    UNDECIDED = "undecided"  # replaced coordinator: a generation may be running
    OPEN = "open"
    SEALED = "sealed"
    CLOSED = "closed"


@dataclass
class Membership:
    """The whole state. `opened` and `ticked` are times of the same clock as `now`."""

    epoch: int
    nodes: int  # wanted; the operator may change it, and with it `legal`
    local_world_size: int
    legal: tuple[int, ...]  # numbers of nodes that may train, ascending
    goal: int  # nodes that the next generation waits for
    timing: Timing
    opened: float
    ticked: float
    rendezvous: Rendezvous
    late: float = float("-inf")  # when a tick came late last: what is heard since may have been said before
    polled: float | None = None  # when the operator asked last; None: before it was told anything
    deaf: float = float("-inf")  # when fewer than half were heard last
    slots: dict[int, Slot] = field(default_factory=dict)
    # Who takes a slot once the agent that leaves it has saved, by index.
    successors: dict[int, Slot] = field(default_factory=dict)
    sealed: SealedGeneration | None = None  # the newest sealed or adopted
    alone: Slot | None = None  # of a generation of one, as long as its ranks may run
    claims: dict[int, SealedGeneration] = field(default_factory=dict)  # what agents say that they run
    leaving: dict[int, Slot] = field(default_factory=dict)  # told to end, and not lost since, by index
    # Words of agents of which none can bring a decision about, see decisions.advance_if_due.
    quiet: int = 0
    # What is claimed, once each: as many copies as members would be quadratic in members.
    claimed: dict[GenerationId, SealedGeneration] = field(default_factory=dict)
    evicted: int = 0  # agents whose slots others have taken
    evicted_before: int = 0  # the same at the last tick
    # Spares that have taken a slot, by (index, incarnation) that they still call themselves.
    aliases: dict[WorkerId, AgentIdentity] = field(default_factory=dict)
    suspicion: bool = False  # a member of the broken generation reported a failure
    failures: FailureLog = field(default_factory=FailureLog)
    connectivity: Connectivity = field(default_factory=Connectivity)
    step: int = -1  # highest step that any rank ever finished
    step_at_seal: int = -1
    fruitless: int = 0  # generations in a row that finished no new step
    command: Command = Command.NONE
    gone: frozenset[WorkerId] = frozenset()  # pods that Kubernetes holds to be gone
    limits: NumberedLimits | None = None  # what ranks are told
    rank_order: RankOrder = field(default_factory=RankOrder)
    outcome: RunState | None = None
    unheard: bool = False  # ranks may have trained further than anybody told before the run was closed
    superseded: bool = False

    @property
    def generation(self) -> GenerationId | None:
        """The newest generation, sealed or adopted."""
        return self.sealed.generation if self.sealed else None

    @property
    def closed(self) -> bool:
        """True if the run is over: agents end, and only send their remaining data."""
        return self.rendezvous is Rendezvous.CLOSED

    @property
    def effective_command(self) -> Command:
        """The command for the ranks; an agent that leaves requests a checkpoint, too."""
        leaves = any(self.is_saving_for(slot) for slot in self.leaving.values())
        return Command.CHECKPOINT_AND_EXIT if leaves else self.command

    @property
    def shared_state(self) -> tuple[object, ...]:
        """The part of an answer that all agents share; evictions count once per tick, to wake fewer."""
        shared = (self.generation, self.rendezvous, self.effective_command, self.limits, self.superseded)
        return (*shared, self.connectivity.round_number, self.evicted_before)

    @property
    def finished_step(self) -> int | None:
        """The highest finished step; None before the first."""
        return self.step if self.step >= 0 else None

    def resolve_identity(self, agent: AgentIdentity) -> AgentIdentity:
        """Return the agent's current identity: a spare may have a slot before it knows."""
        return self.aliases.get(agent.worker, agent)

    def sealed_agent(self, index: int) -> AgentIdentity | None:
        """Return the agent that fills slot `index` in the newest generation."""
        member = self.sealed.by_index.get(index) if self.sealed else None
        return member.agent if member else None

    def slot_of(self, agent: AgentIdentity) -> Slot | None:
        """Return the slot that exactly this incarnation fills, or will; None without one."""
        slots = (self.slots.get(agent.index), self.successors.get(agent.index))
        return next((slot for slot in slots if slot is not None and slot.agent.worker == agent.worker), None)

    def is_saving_for(self, slot: Slot) -> bool:
        """Return whether all save their work because the agent of `slot` leaves."""
        return slot.leaving and self.rendezvous is Rendezvous.SEALED and not slot.lost

    def missing(self) -> list[int]:
        """Return the slots without a live agent, ascending."""
        return [
            index for index in range(self.nodes) if index not in self.slots or bool(self.slots[index].lost)
        ]


def new_membership(
    epoch: int,
    nodes: int,
    local_world_size: int,
    now: float,
    timing: Timing,
    legal: Sequence[int] = (),
) -> Membership:
    """Return a membership without agents; only the first epoch knows that nothing runs yet.

    `legal` are the numbers of nodes that may train; where there are none, `nodes` is used, and the ranks
    report why that cannot work.
    """
    return Membership(
        epoch,
        nodes,
        local_world_size,
        legal=tuple(legal) or (nodes,),
        goal=nodes,
        timing=timing,
        opened=now,
        ticked=now,
        rendezvous=Rendezvous.OPEN if epoch <= 1 else Rendezvous.UNDECIDED,
    )
