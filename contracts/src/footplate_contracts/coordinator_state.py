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
        default=None, description="median of the recent steps, and what of rollouts and scoring falls to each"
    )
    time: float | None = None
    saving: bool = Field(default=False, description="all ranks have waited for a checkpoint for seconds")
    phase: Annotated[RankPhase | None, read_unknown_as(RankPhase.VALIDATION)] = Field(
        default=None, description="rollout or scoring, while any rank is at it; else absent"
    )
    finished: int | None = Field(default=None, description="in that phase: tokens, or samples scored")
    data: Annotated[DataDigest | None, IF_READABLE] = Field(
        default=None, description="of the shards it reads"
    )
    answers: Annotated[Digest | None, IF_READABLE] = Field(
        default=None, description="of manifest.json of the data set that it wrote"
    )


class NumberedFailure(WireMessage):
    """A failure with its number in the coordinator's list."""

    number: int = Field(ge=1, description="counts up within one epoch")
    failure: FailureReport
    agent: AgentIdentity
    generation: GenerationId | None = None
    checkpoint_step: int | None = Field(
        default=None, description="of the newest durable checkpoint when it was listed"
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
    seconds: float = Field(description="since its last word")


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
        default=None, description="as it was told last; absent: an earlier one, which takes none"
    )
    knows: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="paths of LATER_DIRECTIVES that it acts upon",
    )
    refusals: Refusals = Field(
        default_factory=dict, max_length=256, description="so that what was in force before stays in force"
    )
    generation: GenerationId | None = None
    members: Annotated[list[Member], FailFast()] = Field(default_factory=list, max_length=MOST_PODS)
    missing: Annotated[list[int], FailFast()] = Field(
        default_factory=list, max_length=MOST_PODS, description="worker indices not heard of"
    )
    missed: Annotated[list[MissedAgent], FailFast()] = Field(
        default_factory=list, max_length=MOST_PODS, description="whatever ended a generation"
    )
    unreachable: list[UnreachablePair] = Field(default_factory=list, max_length=32)
    waiting: Annotated[list[AgentIdentity], FailFast()] = Field(
        default_factory=list,
        max_length=MOST_PODS,
        description="ready for the next generation, and not in this one",
    )
    progress: Progress = Field(default_factory=Progress)
    start_step: int | None = Field(default=None, description="step the generation started from")
    unheard: bool = Field(default=False, description="ranks may have trained further than anybody told")
    checkpoint: CheckpointRecord | None = None
    checkpoint_steps: list[int] = Field(
        default_factory=list, max_length=32, description="of the last three that became durable, ascending"
    )
    failures: list[NumberedFailure] = Field(default_factory=list, max_length=32)
    failures_by_cause: dict[str, int] = Field(
        default_factory=dict,
        max_length=256,  # far more causes than there are: a newer release may have others
        description="of all numbers so far; an earlier coordinator does not count them",
    )
    telemetry_backlog: int = 0
    given_up: DroppedTelemetry = Field(default_factory=DroppedTelemetry)
    energy: list[ListedEnergy] = Field(
        default_factory=list,
        max_length=MOST_PODS,
        description="of each pod that measures, also of those that ended last; more of it is no new version",
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
