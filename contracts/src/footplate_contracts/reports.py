"""Reports of ranks, and the records that the API stores of them.

The way of a number: a rank reports to its agent over a Unix socket, the agent to
the coordinator with its next heartbeat (`rendezvous.py`), the coordinator to the API
in batches and to the operator's long-poll (`coordinator_state.py`). Each hop may be
down for minutes, so data that must not be lost carries a sequence and stays with its
sender until the receiver acknowledges it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import FailFast, Field

from footplate_contracts.base import IF_READABLE, WireMessage, read_unknown_as
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.samples import ShownSamples
from footplate_contracts.v1alpha1.types import CHECKPOINT_URI_LIMIT, MOST_STANDING, DataDigest, Digest


class GenerationId(WireMessage):
    """Identity of a sealed membership: (epoch of the coordinator, number within it)."""

    epoch: int = Field(ge=0)
    number: int = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}"

    def is_newer_than(self, other: GenerationId) -> bool:
        """Return whether this generation was opened after `other`."""
        return (self.epoch, self.number) > (other.epoch, other.number)

    @classmethod
    def parse(cls, text: str) -> GenerationId:
        """Parse the text of str(); ValueError for anything else."""
        epoch, _, number = text.partition(".")
        return cls(epoch=int(epoch), number=int(number))


class RankPhase(StrEnum):
    """Phase of a rank; hang detection allows a standstill only in some."""

    STARTING = "starting"
    LOADING = "loading"
    COMPUTE = "compute"
    COLLECTIVE = "collective"
    DATA = "data"
    CHECKPOINT = "checkpoint"
    VALIDATION = "validation"
    ROLLOUT = "rollout"  # it samples answers; done with its own, it waits for the others in COLLECTIVE
    SCORING = "scoring"  # it scores them
    DIAGNOSIS = "diagnosis"
    FINISHED = "finished"


class RankReport(WireMessage):
    """The latest state of one rank; a newer one replaces an older one."""

    rank: int
    local_rank: int
    step: int = Field(description="last finished optimizer step; before the first, the start step")
    phase: Annotated[RankPhase, read_unknown_as(RankPhase.VALIDATION)]  # it may stand still in that
    step_seconds: float | None = Field(
        default=None, description="seconds of the step just finished, without rollout and scoring"
    )
    total_steps: int | None = Field(default=None, description="total number of steps for this rank")
    progress: int | None = Field(
        default=None,
        description="tokens generated or samples scored in this phase; otherwise absent",
    )
    data: Annotated[DataDigest | None, IF_READABLE] = Field(
        default=None, description="digest of the token shards that it reads; absent until they are open"
    )
    answers: Annotated[Digest | None, IF_READABLE] = Field(
        default=None,
        description="SHA-256 of manifest.json of the data set that the run wrote, in stage generate",
    )


class RetainedCheckpoint(WireMessage):
    """A durable checkpoint that retention leaves."""

    step: int
    generation: GenerationId = Field(description="generation that committed it")
    digest: Digest | None = Field(
        default=None, description="digest of its manifest; absent if an earlier release wrote it"
    )
    validation_loss: float | None = Field(default=None, description="loss of its weights, where measured")


class CheckpointRecord(WireMessage):
    """A checkpoint that is durable: its commit marker exists."""

    step: int
    uri: str = Field(max_length=CHECKPOINT_URI_LIMIT, description="committed directory")
    time: float
    bytes: int = 0
    seconds_blocked: float = 0.0
    seconds_total: float = 0.0
    generation: GenerationId | None = Field(
        default=None,
        description="generation that committed it, or that began with it where an earlier run had later"
        " generations; absent in records of earlier releases",
    )
    digest: Annotated[Digest | None, IF_READABLE] = None
    validation_loss: float | None = Field(default=None, description="loss of its weights, where measured")
    standing: Annotated[list[RetainedCheckpoint] | None, IF_READABLE] = Field(
        default=None,
        max_length=MOST_STANDING,
        description="checkpoints that retention keeps, newest first, including this one; always with the"
        " best and those kept by step",
    )


class CheckpointRemoval(WireMessage):
    """A checkpoint that was durable: retention removed it, or a reader found it damaged."""

    step: int
    generation: GenerationId = Field(description="generation that had committed it")
    time: float = Field(description="seconds since the Unix epoch")


class TelemetryItem(WireMessage):
    """Entry of an agent's outbox: a row, a checkpoint or a removal, or none if it cannot be read."""

    sequence: int = Field(ge=1, description="number of the entry, ascending within an agent's incarnation")
    generation: GenerationId | None = Field(default=None, description="generation that computed it")
    metrics: Annotated[StepMetrics | None, IF_READABLE] = None
    samples: ShownSamples = Field(default=None, description="samples of the row's step")
    checkpoint: Annotated[CheckpointRecord | None, IF_READABLE] = None
    removal: Annotated[CheckpointRemoval | None, IF_READABLE] = None

    @property
    def is_unreadable(self) -> bool:
        """True if the entry's content could not be read."""
        return self.metrics is None and self.checkpoint is None and self.removal is None


class DroppedTelemetry(WireMessage):
    """Numbers of telemetry entries that will never be in the history, since the coordinator began."""

    refused: int = Field(default=0, description="entries that the API rejects for good")
    overflowed: int = Field(default=0, description="entries that did not fit into an outbox")


class TelemetryBatch(WireMessage):
    """Rows that the API stores idempotently under (run uid, generation, step).

    A step that is trained again after a restart has a row of each generation; the history
    shows those of the weights that exist.
    """

    run_uid: str
    epoch: int = Field(description="epoch of the sending coordinator")
    # What is wrong with one entry is said once: a sender that got one wrong has them all wrong.
    rows: Annotated[list[GenerationRow], FailFast()] = Field(default_factory=list, max_length=5000)
    checkpoints: Annotated[list[CheckpointRecord], FailFast()] = Field(default_factory=list, max_length=1000)
    removals: Annotated[list[CheckpointRemoval], FailFast()] = Field(default_factory=list, max_length=1000)
    given_up: DroppedTelemetry = Field(default_factory=DroppedTelemetry)


class GenerationRow(WireMessage):
    """A metric row and the generation that computed it."""

    generation: GenerationId
    metrics: StepMetrics
    samples: ShownSamples = Field(default=None, description="some samples of the step")


class TelemetryReceipt(WireMessage):
    """Numbers of a batch's entries that are stored now, and the wait before the next batch."""

    rows: int
    checkpoints: int
    gather_seconds: float | None = Field(
        default=None, description="seconds to collect entries before the next batch; absent: up to the sender"
    )
