"""A membership told as a story: events by name at times in seconds, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from footplate_contracts.connectivity_probes import ConnectivityProbeResult
from footplate_contracts.directives import Command
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import AgentIdentity, Heartbeat, JoinRequest, Member, SealedGeneration
from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.coordinator import membership
from footplate_elastic.coordinator.actions import Action, AgentArrived, MemberLost
from footplate_elastic.coordinator.state import Membership, Rendezvous, new_membership
from footplate_elastic.coordinator.timing import Timing
from footplate_elastic.protocol.wire import AgentRefusal


def agent(index: int, incarnation: int = 0) -> AgentIdentity:
    return AgentIdentity(
        index=index,
        incarnation=incarnation,
        pod_name=f"run-w{index}-{incarnation}",
        address=f"10.0.0.{index}",
        local_world_size=2,
    )


def any_size(least: int, most: int) -> tuple[int, ...]:
    """The legal numbers of nodes of a run that may have any."""
    return tuple(range(least, most + 1))


def failure(cause: Cause = Cause.USER_ERROR, time: float = 0.0, code: int | None = 1) -> FailureReport:
    reason = Reason.PEER_LOST if cause is Cause.COMMUNICATION else Reason.PYTHON_ERROR
    return FailureReport(cause=cause, reason=reason, message="boom", exit_code=code, time=time)


def sealed_by_hand(generation: GenerationId, incarnations: tuple[int, ...] = (0, 0)) -> SealedGeneration:
    """A generation that an earlier coordinator sealed; the store ports are 100, 101, …"""
    members = [
        Member(
            agent=agent(index, incarnation), group_rank=index, first_rank=2 * index, store_port=100 + index
        )
        for index, incarnation in enumerate(incarnations)
    ]
    return SealedGeneration(generation=generation, members=members, world_size=2 * len(members))


@dataclass
class Story:
    """`port` counts up with each join, as an agent's stores do."""

    nodes: int = 2
    epoch: int = 1
    least: int | None = None  # so few may go on; None: all of them
    now: float = 0.0
    state: Membership = field(init=False)
    said: list[Action] = field(default_factory=list)
    port: int = 1000

    def __post_init__(self) -> None:
        legal = any_size(self.least or self.nodes, self.nodes)
        self.state = new_membership(self.epoch, self.nodes, 2, self.now, Timing(), legal)

    def at(self, now: float) -> Story:
        """Time passes: with a tick every 50 ms and no word from anybody."""
        while self.now < now - 1e-9:
            self.now = min(now, self.now + 0.05)
            self.said += membership.tick(self.state, self.now)
        return self

    def join(
        self,
        index: int,
        incarnation: int = 0,
        last: GenerationId | None = None,
        why: FailureReport | None = None,
        port: int | None = None,
    ) -> AgentRefusal | None:
        self.port += 1
        request = JoinRequest(
            agent=agent(index, incarnation),
            store_port=port if port is not None else self.port,
            last_generation=last,
            failure=why,
        )
        refusal, actions = membership.handle_join(self.state, request, self.now)
        self.said += actions
        return refusal

    def beat(
        self,
        index: int,
        incarnation: int = 0,
        running: SealedGeneration | None = None,
        step: int | None = None,
        finished: bool = False,
        suspended: bool = False,
        why: FailureReport | None = None,
        leaving: bool = False,
        probed: ConnectivityProbeResult | None = None,
    ) -> AgentRefusal | None:
        reports = []
        if step is not None:
            phase = RankPhase.COMPUTE
            reports = [RankReport(rank=2 * index, local_rank=0, step=step, phase=phase, step_seconds=0.1)]
        word = Heartbeat(
            agent=agent(index, incarnation),
            generation=running.generation if running else None,
            members=running.members if running else [],
            ranks=reports,
            finished=finished,
            suspended=suspended,
            leaving=leaving,
            failure=why,
            probed=probed,
        )
        refusal, actions = membership.handle_heartbeat(self.state, word, self.now)
        self.said += actions
        return refusal

    def beats_until(self, now: float, indices: list[int], running: SealedGeneration | None = None) -> Story:
        """Agents `indices` speak every half second; the others are silent."""
        while self.now < now - 1e-9:
            self.at(min(now, self.now + 0.5))
            for index in indices:
                self.beat(index, running=running)
        return self

    def connect(self, index: int, incarnation: int = 0) -> None:
        _, actions = membership.handle_connect(self.state, agent(index, incarnation), self.now)
        self.said += actions

    def disconnect(self, index: int, incarnation: int = 0) -> None:
        self.said += membership.handle_disconnect(self.state, agent(index, incarnation), self.now)

    def leave(self, index: int, incarnation: int = 0) -> None:
        self.said += membership.handle_leave(self.state, agent(index, incarnation), self.now)

    def command(self, command: Command) -> None:
        self.said += membership.handle_command(self.state, command, self.now)

    def resize(self, nodes: int, least: int | None = None) -> None:
        self.said += membership.handle_resize(self.state, nodes, any_size(least or nodes, nodes), self.now)

    def save(self) -> None:
        self.said += membership.handle_checkpoint(self.state, self.now)

    def members(self) -> list[int]:
        """Indices of the newest sealed generation."""
        return [member.agent.index for member in self.state.sealed.members] if self.state.sealed else []

    def lose(self, index: int, incarnation: int = 0) -> None:
        """The agent's process is gone, and everybody who is left joins again."""
        before = self.state.generation
        self.disconnect(index, incarnation)
        self.at(self.now + 0.2)
        for other in self.members():
            if other != index:
                self.join(other, last=before)

    def rendezvous(self) -> Rendezvous:
        """Where the gang stands (a call, so that a type checker expects it to change)."""
        return self.state.rendezvous

    def sealed(self, incarnations: tuple[int, ...] | None = None) -> SealedGeneration:
        """All have joined: the generation that this has sealed."""
        for index in range(self.nodes):
            self.connect(index, incarnations[index] if incarnations else 0)
            self.join(index, incarnations[index] if incarnations else 0, last=self.state.generation)
        assert self.state.sealed is not None
        return self.state.sealed

    def kinds(self) -> list[str]:
        """The names of all actions so far but arrivals, and forget them."""
        names = [type(action).__name__ for action in self.said if not isinstance(action, AgentArrived)]
        self.said.clear()
        return names

    def lost(self) -> list[int]:
        """Indices of the agents that were lost so far."""
        return [action.agent.index for action in self.said if isinstance(action, MemberLost)]
