"""A slot of the gang: the agent that fills it now and that agent's state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from footplate_contracts.rendezvous import AgentIdentity, JoinRequest, Member, SealedGeneration


class RankOutcome(StrEnum):
    """The way in which all ranks of an agent ended in the current generation."""

    FINISHED = "finished"
    SUSPENDED = "suspended"


@dataclass(eq=False)
class Slot:
    """A worker index with its current incarnation. Times are seconds of one monotonic clock."""

    agent: AgentIdentity
    heard: float  # the last word of any kind, or later by what is
    excused: float = 0.0  # seconds since then in which we could have heard nobody
    connections: int = 0  # idle connections open now
    disconnected: float | None = None  # since when the last of them is gone
    lost: str = ""  # why it is held to be gone; empty while it lives
    silent: bool = False  # that it is lost was told by its silence alone
    unreachable: bool = False  # it is lost to its peers alone, who do not reach it, and speaks to us
    waiting: JoinRequest | None = None  # ready for the next generation
    leaving: bool = False  # it was told to end, and will once its generation is saved
    ended: RankOutcome | None = None
    last_step: int | None = None  # that its ranks ended with, or would have

    def silent_for(self, now: float) -> float:
        """Return the seconds since the agent's last message."""
        return now - self.heard

    @property
    def ready(self) -> bool:
        """True if it may be sealed into a generation."""
        return self.waiting is not None and not self.lost and self.disconnected is None and not self.leaving


def member_of(sealed: SealedGeneration | None, agent: AgentIdentity) -> Member | None:
    """Return the member that is exactly this incarnation in `sealed`."""
    member = sealed.by_index.get(agent.index) if sealed is not None else None
    return member if member is not None and member.agent.incarnation == agent.incarnation else None


def is_answered_by(sealed: SealedGeneration | None, request: JoinRequest) -> bool:
    """Return whether `sealed` is the answer to this very join.

    An agent opens a new store, on a new port, for every join; a join whose
    answer was lost on the way comes again with the same port.
    """
    member = member_of(sealed, request.agent)
    if sealed is None or member is None or member.store_port != request.store_port:
        return False
    return request.last_generation is None or sealed.generation.is_newer_than(request.last_generation)
