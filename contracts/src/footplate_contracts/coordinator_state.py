"""Messages from a coordinator to the operator: the run's whole state each time."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import FailFast, Field

from footplate_contracts.base import IF_READABLE, WireMessage, read_unknown_as
from footplate_contracts.directives import Directives, Refusals
from footplate_contracts.energy import MOST_PODS, ListedEnergy
from footplate_contracts.failures import FailureReport
from footplate_contracts.rendezvous import AgentIdentity, Member
from footplate_contracts.reports import CheckpointRecord, DroppedTelemetry, GenerationId, RankPhase
from footplate_contracts.v1alpha1.types import DataDigest, Digest


class Progress(WireMessage):
    """Training progress, from the newest rows."""

    step: int = 0
    total_steps: int = 0
    tokens: int = 0
    loss: float | None = None
    step_seconds: float | None = Field(
        default=None, description="median over recent steps, with their shares of rollouts and scoring"
    )
    time: float | None = None
    saving: bool = Field(default=False, description="true if all ranks have waited seconds for a checkpoint")
    phase: Annotated[RankPhase | None, read_unknown_as(RankPhase.VALIDATION)] = Field(
        default=None, description="rollout or scoring while any rank is in it; else absent"
    )
    finished: int | None = Field(default=None, description="tokens generated or samples scored in that phase")
    data: Annotated[DataDigest | None, IF_READABLE] = Field(
        default=None, description="digest of the token shards that the run reads"
    )
    answers: Annotated[Digest | None, IF_READABLE] = Field(
        default=None, description="SHA-256 of manifest.json of the data set that the run wrote"
    )


class NumberedFailure(WireMessage):
    """A failure with its number in the coordinator's list."""

    number: int = Field(ge=1, description="number of the failure, ascending within an epoch")
    failure: FailureReport
    agent: AgentIdentity
    generation: GenerationId | None = None
    checkpoint_step: int | None = Field(
        default=None, description="step of the newest durable checkpoint when the failure was listed"
    )


class Verdict(StrEnum):
    """Verdict of a coordinator on an agent that it misses."""

    SUSPECT = "suspect"  # silent, as are so many that it may be the coordinator that hears nobody
    SILENT = "silent"  # held to be gone, because it said nothing: its node may be gone, too
    ENDED = "ended"  # held to be gone, because its process ended: its node said so
    UNREACHABLE = "unreachable"  # it is heard, but not by a peer: another one should have its place


class MissedAgent(WireMessage):
    """An agent that had a slot, and that the coordinator or a peer does not reach."""

    agent: AgentIdentity
    verdict: Annotated[Verdict, read_unknown_as(Verdict.SUSPECT)]  # which Kubernetes has to confirm
    seconds: float = Field(description="seconds since its last message")


class UnreachablePair(WireMessage):
    """Two agents that do not reach each other, though both send heartbeats to the coordinator."""

    one: AgentIdentity
    other: AgentIdentity


class RunState(StrEnum):
    """State of the whole run, as the coordinator sees it."""

    GATHERING = "gathering"  # a generation is open, members are missing
    LOADING = "loading"  # sealed, no rank has finished a step since, nor got on in a rollout
    TRAINING = "training"
    SUSPENDED = "suspended"  # the commanded checkpoint is durable and all ranks ended
    FINISHED = "finished"


class CoordinatorState(WireMessage):
    """Response to the operator's long-poll; `version` grows with each change.

    A coordinator reports one run, and the operator reads the reports of all runs: each list has a maximum
    length, and validation reports one error of a list, not one for each entry.
    """

    version: int
    epoch: int
    state: Annotated[RunState, read_unknown_as(RunState.LOADING)]  # nobody need act upon that
    directives: Directives | None = Field(
        default=None, description="newest directives; absent from earlier releases, which accept none"
    )
    knows: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="supported paths of LATER_DIRECTIVES",
    )
    refusals: Refusals = Field(
        default_factory=dict,
        max_length=256,
        description="reasons by field, whose previous value stays in force",
    )
    generation: GenerationId | None = None
    members: Annotated[list[Member], FailFast()] = Field(default_factory=list, max_length=MOST_PODS)
    missing: Annotated[list[int], FailFast()] = Field(
        default_factory=list, max_length=MOST_PODS, description="worker indices that have sent no message"
    )
    missed: Annotated[list[MissedAgent], FailFast()] = Field(
        default_factory=list, max_length=MOST_PODS, description="missed agents, whatever ended the generation"
    )
    unreachable: list[UnreachablePair] = Field(default_factory=list, max_length=32)
    waiting: Annotated[list[AgentIdentity], FailFast()] = Field(
        default_factory=list,
        max_length=MOST_PODS,
        description="agents ready for the next generation that are not in the current one",
    )
    progress: Progress = Field(default_factory=Progress)
    start_step: int | None = Field(default=None, description="step from which the generation started")
    unheard: bool = Field(default=False, description="true if ranks may be further than they reported")
    checkpoint: CheckpointRecord | None = None
    checkpoint_steps: list[int] = Field(
        default_factory=list,
        max_length=32,
        description="steps of the last three to become durable, ascending",
    )
    failures: list[NumberedFailure] = Field(default_factory=list, max_length=32)
    failures_by_cause: dict[str, int] = Field(
        default_factory=dict,
        max_length=256,  # far more causes than there are: a newer release may have others
        description="failures by cause up to the newest number; empty from earlier releases",
    )
    telemetry_backlog: int = 0
    given_up: DroppedTelemetry = Field(default_factory=DroppedTelemetry)
    energy: list[ListedEnergy] = Field(
        default_factory=list,
        max_length=MOST_PODS,
        description="energy of each measured pod, including the last to end; an increase alone is no new"
        " version",
    )

    @classmethod
    def empty(cls) -> Self:
        """Return the state of a coordinator that has not answered yet: version 0, which no answer has."""
        return cls(version=0, epoch=0, state=RunState.GATHERING)

    @property
    def is_received(self) -> bool:
        """True if a coordinator sent this state."""
        return self.version > 0

    @property
    def member_indices(self) -> frozenset[int]:
        """Worker indices of the newest generation."""
        return frozenset(member.agent.index for member in self.members)
