"""What ranks, agents, coordinator, operator and API tell each other at run time.

The way of a number: a rank reports to its agent over a Unix socket, the agent
to the coordinator with its next heartbeat, the coordinator to the API in
batches and to the operator's long-poll. Each hop may be down for minutes, so
whatever must not be lost carries a sequence and is kept until acknowledged.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import FailFast, Field

from footplate_contracts.diagnosis import KnownDiagnosis
from footplate_contracts.directives import Command, Directives, NumberedLimits, Refusals
from footplate_contracts.energy import MOST_PODS, ListedEnergy, ReadableEnergy
from footplate_contracts.failures import FailureReport
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.model import IF_READABLE, Report, read_unknown_as
from footplate_contracts.names import FIRST_SPARE, WorkerId
from footplate_contracts.probes import Probe, ProbeResult
from footplate_contracts.v1alpha1.types import CHECKPOINT_URI_LIMIT, ShortText


class GenerationId(Report):
    """One sealed membership: (epoch of the coordinator, number within it)."""

    epoch: int = Field(ge=0)
    number: int = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"

    def newer_than(self, other: GenerationId) -> bool:
        """Whether this generation was opened after `other`."""
        return (self.epoch, self.number) > (other.epoch, other.number)

    @classmethod
    def parse(cls, text: str) -> GenerationId:
        """The inverse of str(); ValueError for anything else."""
        epoch, _, number = text.partition(".")
        return cls(epoch=int(epoch), number=int(number))


class RankPhase(StrEnum):
    """What a rank is doing; hang detection allows a standstill only in some."""

    STARTING = "starting"
    LOADING = "loading"
    COMPUTE = "compute"
    COLLECTIVE = "collective"
    DATA = "data"
    CHECKPOINT = "checkpoint"
    VALIDATION = "validation"
    DIAGNOSIS = "diagnosis"
    FINISHED = "finished"


class RankReport(Report):
    """The latest state of one rank; a newer one replaces an older one."""

    rank: int
    local_rank: int
    step: int = Field(description="last finished optimizer step; the start step before the first")
    phase: Annotated[RankPhase, read_unknown_as(RankPhase.VALIDATION)]  # it may stand still in that
    step_seconds: float | None = None
    total_steps: int | None = Field(default=None, description="the step that this rank ends with")


class CheckpointRecord(Report):
    """A checkpoint that is durable: its commit marker exists."""

    step: int
    uri: str = Field(max_length=CHECKPOINT_URI_LIMIT, description="the committed directory")
    time: float
    bytes: int = 0
    seconds_blocked: float = 0.0
    seconds_total: float = 0.0
    generation: GenerationId | None = Field(
        default=None, description="that committed it; absent in a record of an earlier trainer"
    )


class CheckpointRemoval(Report):
    """A checkpoint that was durable and is gone: retention removed it, or it was found to be damaged."""

    step: int
    generation: GenerationId = Field(description="that had committed it")
    time: float = Field(description="seconds since the Unix epoch")


class TelemetryItem(Report):
    """One entry of an agent's outbox; exactly one of the last three is set, or none that can be read."""

    sequence: int = Field(ge=1, description="counts up within one incarnation of an agent")
    generation: GenerationId | None = Field(default=None, description="the one that computed it")
    metrics: Annotated[StepMetrics | None, IF_READABLE] = None
    checkpoint: Annotated[CheckpointRecord | None, IF_READABLE] = None
    removal: Annotated[CheckpointRemoval | None, IF_READABLE] = None

    @property
    def unreadable(self) -> bool:
        """Whether what it held could not be read."""
        return self.metrics is None and self.checkpoint is None and self.removal is None


class GivenUp(Report):
    """Telemetry that will never be in the history: how many entries, since the coordinator began."""

    refused: int = Field(default=0, description="that the API will never take")
    overflowed: int = Field(default=0, description="that an outbox had no room for")


# -- agent <-> coordinator ---------------------------------------------------------


class AgentIdentity(Report):
    """Who speaks: the slot in the gang and the process that fills it now."""

    index: int = Field(ge=0, description="worker index, the slot")
    incarnation: int = Field(ge=0, description="grows with every new pod of that slot")
    pod_name: ShortText
    pod_uid: str = Field(default="", max_length=64)
    node_name: ShortText = ""
    address: ShortText = Field(description="IP under which other members reach this agent")
    local_world_size: int = Field(
        ge=1, validation_alias="slots", serialization_alias="slots", description="ranks this agent starts"
    )

    @property
    def worker(self) -> WorkerId:
        """Its slot, and which pod of that slot it runs in."""
        return WorkerId(self.index, self.incarnation)

    @property
    def spare(self) -> bool:
        """Whether it has no slot yet."""
        return self.index >= FIRST_SPARE


class JoinRequest(Report):
    """'I am ready for the next generation'; answered when one is sealed."""

    agent: AgentIdentity
    store_port: int = Field(description="port of the TCPStore that this agent would host")
    last_generation: GenerationId | None = None
    failure: FailureReport | None = Field(default=None, description="why the last one ended here")


class Farewell(AgentIdentity):
    """An agent ends by request: its last word, in which an earlier coordinator reads who it is."""

    energy: ReadableEnergy = None


class Member(Report):
    """One agent of a sealed generation."""

    agent: AgentIdentity
    group_rank: int
    first_rank: int
    store_port: int


class SealedGeneration(Report):
    """Answer to a join: the membership that everybody starts with."""

    generation: GenerationId
    members: list[Member]
    world_size: int = Field(description="ranks in all")
    limits: NumberedLimits | None = Field(
        default=None, description="that hold now; absent in one that an earlier coordinator sealed"
    )


class Heartbeat(Report):
    """An agent's word to the coordinator; itself the long-poll for changes."""

    agent: AgentIdentity
    generation: GenerationId | None = None
    members: list[Member] = Field(
        default_factory=list,
        description="the sealed generation as this agent knows it, for a coordinator that was replaced",
    )
    ranks: list[RankReport] = Field(default_factory=list)
    total_steps: int | None = Field(default=None, description="the step that the ranks here end with")
    outbox: list[TelemetryItem] = Field(default_factory=list)
    outbox_oldest: int = Field(
        default=0, description="sequence of the oldest item kept; all before it are durable, or overflowed"
    )
    overflowed: int = Field(
        default=0, description="items that the outbox had no room for and nobody else had, since it began"
    )
    overflowed_told: int = Field(
        default=0, description="of these, how many a coordinator had answered to: no other counts them again"
    )
    failure: FailureReport | None = None
    finished: bool = Field(default=False, description="all ranks here ended with success")
    suspended: bool = Field(default=False, description="all ranks here ended after the commanded checkpoint")
    leaving: bool = Field(
        default=False, description="this agent was told to end, and waits until what its ranks did is saved"
    )
    probed: ProbeResult | None = Field(default=None, description="the newest")
    energy: ReadableEnergy = Field(default=None, description="absent where no device is measured")


class HeartbeatAnswer(Report):
    """What the coordinator knows and the agent must act upon."""

    epoch: int
    generation: GenerationId | None = Field(default=None, description="newest sealed or adopted")
    rendezvous_open: bool = Field(default=False, description="stop ranks and join again")
    evicted: bool = Field(default=False, description="a newer incarnation has this slot: end")
    closed: bool = Field(default=False, description="the run is over: end with success")
    command: Annotated[Command, read_unknown_as(Command.NONE)] = Command.NONE
    limits: NumberedLimits | None = None
    diagnosis: KnownDiagnosis = Field(default=None, description="the newest one")
    probe: Probe | None = Field(default=None, description="absent once it is answered")
    received: int = Field(default=0, description="outbox items up to here need not be sent again")
    acknowledged: int = Field(default=0, description="outbox items up to here are durable")


class GrantRequest(Report):
    """May `generation` commit the checkpoint of `step`?"""

    generation: GenerationId
    step: int


class Grant(Report):
    """The answer; `granted` only for the newest generation."""

    granted: bool
    reason: str = Field(default="", max_length=1024)


# -- coordinator -> operator -------------------------------------------------------


class Progress(Report):
    """Where the run stands, from the newest rows."""

    step: int = 0
    total_steps: int = 0
    tokens: int = 0
    loss: float | None = None
    step_seconds: float | None = Field(default=None, description="median of the recent steps")
    time: float | None = None
    saving: bool = Field(default=False, description="all ranks have waited for a checkpoint for seconds")


class NumberedFailure(Report):
    """A failure with its place in the coordinator's list."""

    number: int = Field(ge=1, description="counts up within one epoch")
    failure: FailureReport
    agent: AgentIdentity
    generation: GenerationId | None = None
    checkpoint_step: int | None = Field(
        default=None, description="of the newest durable checkpoint when it was listed"
    )


class Verdict(StrEnum):
    """What a coordinator makes of an agent that it misses."""

    SUSPECT = "suspect"  # silent, as are so many that it may be the coordinator that hears nobody
    SILENT = "silent"  # held to be gone, because it said nothing: its node may be gone, too
    ENDED = "ended"  # held to be gone, because its process ended: its node said so
    UNREACHABLE = "unreachable"  # it is heard, but not by a peer: another one should have its place


class MissedAgent(Report):
    """An agent that had a slot, and is not heard."""

    agent: AgentIdentity
    verdict: Annotated[Verdict, read_unknown_as(Verdict.SUSPECT)]  # which Kubernetes has to confirm
    seconds: float = Field(description="since its last word")


class UnreachablePair(Report):
    """Two agents that do not reach each other, though the coordinator hears both."""

    one: AgentIdentity
    other: AgentIdentity


class RunState(StrEnum):
    """The coordinator's view of the whole run."""

    GATHERING = "gathering"  # a generation is open, members are missing
    LOADING = "loading"  # sealed, no rank has finished a step since
    TRAINING = "training"
    SUSPENDED = "suspended"  # the commanded checkpoint is durable and all ranks ended
    FINISHED = "finished"


class CoordinatorState(Report):
    """Answer to the operator's long-poll; `version` grows with each change.

    It speaks for one run, and who listens to it listens to all of them: there is an end to each list, and
    what is wrong with one entry is said once.
    """

    version: int
    epoch: int
    state: Annotated[RunState, read_unknown_as(RunState.LOADING)]  # nobody need act upon that
    directives: Directives | None = Field(
        default=None, description="as it was told last; absent: an earlier one, which takes none"
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
    given_up: GivenUp = Field(default_factory=GivenUp)
    energy: list[ListedEnergy] = Field(
        default_factory=list,
        max_length=MOST_PODS,
        description="of each pod that measures, also of those that ended last; more of it is no new version",
    )

    @classmethod
    def silent(cls) -> Self:
        """What is known of a coordinator before it has answered: nothing. No answer has version 0."""
        return cls(version=0, epoch=0, state=RunState.GATHERING)

    @property
    def heard(self) -> bool:
        """Whether a coordinator answered this."""
        return self.version > 0

    @property
    def member_indices(self) -> frozenset[int]:
        """Worker indices of the newest generation."""
        return frozenset(member.agent.index for member in self.members)


# -- coordinator -> API --------------------------------------------------------------


class TelemetryBatch(Report):
    """Rows that the API stores idempotently under (run uid, generation, step).

    A step that is trained again after a restart has a row of each generation; the history
    shows those of the weights that exist.
    """

    run_uid: str
    epoch: int = Field(description="of the coordinator that sends")
    # What is wrong with one entry is said once: a sender that got one wrong has them all wrong.
    rows: Annotated[list[GenerationRow], FailFast()] = Field(default_factory=list, max_length=5000)
    checkpoints: Annotated[list[CheckpointRecord], FailFast()] = Field(default_factory=list, max_length=1000)
    removals: Annotated[list[CheckpointRemoval], FailFast()] = Field(default_factory=list, max_length=1000)
    given_up: GivenUp = Field(default_factory=GivenUp)


class GenerationRow(Report):
    """A metric row and the generation that computed it."""

    generation: GenerationId
    metrics: StepMetrics


class TelemetryReceipt(Report):
    """How much of a batch is stored now, and when the next one should come."""

    rows: int
    checkpoints: int
    gather_seconds: float | None = Field(
        default=None, description="how long to gather before the next batch; absent: as the sender likes"
    )
