"""`status` of a TrainingRun: observations, never intentions.

It stays within 16 KiB: each list has a maximum, each message 1 KiB, and lists
that grow for ever hold their newest entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from footplate_contracts.names import Cause, ConditionType, Phase
from footplate_contracts.v1alpha1.references import MOST_FOLLOWERS, DependentRun, LineageEntry, ReferenceField
from footplate_contracts.v1alpha1.types import (
    MOST_PROMOTED,
    MOST_STANDING,
    ApiModel,
    CheckpointUri,
    DataDigest,
    Digest,
    Label,
    Name,
    Text,
    Time,
    Whole,
)

ATTEMPT_LIMIT = 20
NODE_LIMIT = 32
DIRECTORY_LIMIT = 64  # more than step-N.eNgN with the largest numbers
RECENT_LIMIT = 32  # more than a day's hours and three checkpoints need

Duration = Annotated[float, Field(ge=0.0)]


class Condition(ApiModel):
    """`metav1.Condition`."""

    list_key: ClassVar = "type"

    type: Annotated[str, Field(max_length=64)] = Field(description="what is stated")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=7)] = Field(
        description="True, False or Unknown"
    )
    observed_generation: Whole | None = Field(None, description="of the spec that it was stated of")
    last_transition_time: Time = Field(description="since when")
    reason: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="one word")
    message: Text = Field("", description="for a person")


class ProgressStatus(ApiModel):
    """Progress of the training."""

    step: Whole = Field(0, description="last finished optimizer step")
    total_steps: Whole = Field(0, description="steps in all")
    tokens: Whole = Field(0, description="tokens trained on")
    loss: float | None = Field(None, description="of that step")
    percentage: Annotated[float, Field(ge=0.0, le=100.0)] = Field(0.0, description="of the steps")
    estimated_remaining_seconds: Whole | None = Field(None, description="at the present speed")
    phase: Label | None = Field(None, description="rollout or scoring, while any rank is at it; else absent")
    completed_items: Whole | None = Field(
        None, description="of that phase: tokens sampled, or samples scored"
    )
    last_updated_time: Time | None = Field(None, description="when this was seen")


class DataLineage(ApiModel):
    """Data that the run read and wrote, as its ranks reported."""

    digest: DataDigest | None = Field(
        None, description="of the shards that it reads: equal for equal tokens, wherever they lie"
    )
    answers: Digest | None = Field(
        None, description="of stage generate: SHA-256 of manifest.json in rollout.output.uri, once it stands"
    )


class WorldStatus(ApiModel):
    """The generation that trains, or trained last."""

    nodes: Whole = Field(0, description="worker pods")
    ranks: Whole = Field(0, description="processes")
    generation: Annotated[str, Field(max_length=32)] = Field("", description="<epoch>.<number>")
    tensor: Whole = Field(1, description="ranks that share each matrix")
    pipeline: Whole = Field(1, description="ranks that share the layers")
    data: Whole = Field(1, description="ranks that share the batch")
    spares: Whole = Field(0, description="spare pods that are ready to take a place")


class RetainedCheckpointStatus(ApiModel):
    """A durable checkpoint that retention leaves."""

    step: Whole = Field(description="its step")
    generation: Annotated[str, Field(max_length=32)] = Field(description="<epoch>.<number> that committed it")
    digest: Digest | None = Field(None, description="SHA-256 of its manifest.json, and so of all of it")
    validation_loss: float | None = Field(None, description="of its weights, if it was taken at that step")

    @property
    def directory(self) -> str:
        """Its directory in checkpoint.uri."""
        epoch, _, number = self.generation.partition(".")
        return f"step-{self.step}.e{epoch}g{number}"


class PromotedCheckpoint(ApiModel):
    """A mark of `spec.checkpoint.promoted`, and its checkpoint."""

    list_key: ClassVar = "name"

    name: Label = Field(description="of the mark")
    step: Whole = Field(description="of the checkpoint")
    directory: Annotated[str, Field(max_length=DIRECTORY_LIMIT)] | None = Field(
        None, description="its directory in checkpoint.uri; absent: it is not among the checkpoints kept"
    )
    digest: Digest | None = Field(None, description="SHA-256 of its manifest.json, and so of all of it")


class CheckpointStatus(ApiModel):
    """The newest durable checkpoint, and the others that retention leaves."""

    latest_step: Whole = Field(description="its step")
    uri: CheckpointUri = Field(description="its folder")
    last_committed_time: Time = Field(description="when it was complete")
    durable: bool = Field(True, description="whether it outlives the nodes")
    recent_steps: Annotated[list[Whole], Field(max_length=3)] = Field(
        [],
        description="the last three durable ones, ascending: restart limits count at least since the first",
    )
    kept: Annotated[list[RetainedCheckpointStatus], Field(max_length=MOST_STANDING)] | None = Field(
        None,
        description="those that retention left, newest first; absent where an earlier trainer does not say",
    )
    best_step: Whole | None = Field(None, description="of those kept, with the lowest validation loss")
    promoted: Annotated[list[PromotedCheckpoint], Field(max_length=MOST_PROMOTED)] | None = Field(
        None, description="checkpoints that bear a mark"
    )


def _cause(cause: object) -> object:
    return Cause.unknown(cause) if isinstance(cause, str) and cause not in frozenset(Cause) else cause


class Attempt(ApiModel):
    """A period of training between two interruptions."""

    number: Whole = Field(description="from 1")
    start: Time = Field(description="when")
    end: Time | None = Field(None, description="when; absent while it goes on")
    nodes: Whole = Field(0, description="worker pods")
    incarnation: Whole | None = Field(
        None, description="newest incarnation of any worker when it began; its own pods have later ones"
    )
    generation: Annotated[str, Field(max_length=32)] = Field(
        "", description="<epoch>.<number> that trained in it; what ended one generation is one interruption"
    )
    start_step: Whole = Field(0, description="where it began")
    end_step: Whole | None = Field(None, description="where it ended")
    cause: Annotated[Cause | None, BeforeValidator(_cause)] = None
    reason: Annotated[str, Field(max_length=64)] = Field("", description="why it ended, in one word")
    node: Annotated[str, Field(max_length=253)] = Field("", description="the node to blame")
    rank: Whole | None = Field(None, description="the first rank that failed")
    exit_code: int | None = Field(None, description="of that rank")
    message: Text = Field("", description="for a person")
    lost_steps: Whole = Field(0, description="steps to be trained again")


class RecentFailures(ApiModel):
    """Failures of one hour before one checkpoint, which still count against restart limits."""

    hour: Time = Field(description="that they happened in, by its beginning")
    checkpoint_step: Whole = Field(0, description="of the newest durable checkpoint then; 0: there was none")
    failures: Annotated[dict[str, Whole], Field(max_length=16)] = Field(description="how many, by cause")


class CoordinatorStatus(ApiModel):
    """The coordinator pod; the API trusts a token of this pod only."""

    pod_name: Name = Field(description="its name")
    pod_uid: Annotated[str, Field(max_length=64, alias="podUID")] = Field("", description="its uid")
    address: Annotated[str, Field(max_length=64)] = Field("", description="its IP")
    epoch: Whole = Field(0, description="grows with every new pod")


class GatheringStatus(ApiModel):
    """Wait of a run for nodes; absent once every worker is bound to one."""

    since: Time = Field(description="since when the run has waited")
    turn_time: Time | None = Field(None, description="when its pods were created; absent while it has none")
    released_time: Time | None = Field(None, description="when it deleted such pods last")
    lost_turns: Whole = Field(0, description="turns that ended before all its workers were bound")


class NodeStatus(ApiModel):
    """A node with strikes or a bad verdict."""

    name: Label = Field(description="the node")
    strikes: Whole = Field(0, description="faults held against it")
    message: Text = Field("", description="the latest")


class TimeStatus(ApiModel):
    """Seconds of wall time by activity; the members add up to it."""

    queued: Duration = Field(0.0, description="waiting for admission")
    starting: Duration = Field(0.0, description="pods, rendezvous, loading")
    productive: Duration = Field(0.0, description="steps that counted")
    checkpointing: Duration = Field(0.0, description="standing still for a checkpoint")
    recomputed: Duration = Field(0.0, description="steps that had been trained before")
    restarting: Duration = Field(0.0, description="after faults")
    suspended: Duration = Field(0.0, description="at the word of a person or queue")


class TelemetryStatus(ApiModel):
    """Entries that will never be in the run's history: rows, and records of checkpoints."""

    refused: Whole = Field(0, description="that the API will never take")
    overflowed: Whole = Field(0, description="that a worker had no room for, while nobody took them")


class DeviceTime(ApiModel):
    """Time of the devices of all pods by activity, in device-seconds."""

    productive: Duration = Field(0.0, description="steps that counted")
    checkpointing: Duration = Field(0.0, description="standing still for a checkpoint")
    recomputed: Duration = Field(0.0, description="steps that had been trained before")
    starting: Duration = Field(0.0, description="pods, rendezvous, loading")
    restarting: Duration = Field(0.0, description="after faults")
    waiting: Duration = Field(0.0, description="held while the run stands, and spares")


class EnergyByMethod(ApiModel):
    """Joules, with those of cooling (PUE), by the method that found them."""

    counter: Duration = Field(0.0, description="by the devices' energy counters")
    power: Duration = Field(0.0, description="by samples of the devices' power")
    rated: Duration = Field(0.0, description="by rated power: of devices, and of the rest of nodes")


class CostStatus(ApiModel):
    """Cost of the run so far; unknown amounts are absent, and never 0."""

    dollars: Duration | None = Field(None, description="nodes x hours x price, of what has a price")
    kilowatt_hours: Duration | None = Field(None, description="energy, with that of cooling (PUE)")
    joules: EnergyByMethod | None = Field(None, description="the same energy, by how it was found")
    carbon_kilograms: Duration | None = Field(None, description="CO2 equivalent, where it was consumed")
    method: Annotated[str, Field(max_length=64)] = Field(
        "", description="how energy was found: shares of counter, power, rated, unknown"
    )
    devices_only: bool = Field(False, description="the rest of the nodes is not in the energy")
    carbon_source: Annotated[str, Field(max_length=64)] = Field(
        "", description="shares of profile, series, zone, world"
    )
    node_seconds: Duration = Field(0.0, description="that its pods have held")
    unpriced_node_seconds: Duration = Field(0.0, description="of them, without a price")
    estimated_node_seconds: Duration = Field(0.0, description="of them, of pods that nobody saw end")
    device_seconds: DeviceTime | None = Field(None, description="absent where no pod holds a device")
    until: Time | None = Field(None, description="up to when it is counted")


class InternalStatus(ApiModel):
    """Bookkeeping from which the next leader goes on, so that nothing counts twice or is named again."""

    incarnation: Whole = Field(
        0, description="newest incarnation of any worker; a substitute gets the next, so that no name returns"
    )
    failures_seen: Annotated[str, Field(max_length=64)] = Field(
        "", description="<epoch>.<number> of the newest failure counted"
    )
    failures_seen_by_cause: Annotated[dict[str, Whole], Field(max_length=16)] = Field(
        {}, description="of that epoch's coordinator, up to that number"
    )
    recent_failures: Annotated[list[RecentFailures], Field(max_length=RECENT_LIMIT)] | None = Field(
        None,
        description="those of `status.failures` that restart limits count: since the third-newest durable"
        " checkpoint, and of this hour and the 24 before it at least",
    )
    telemetry_seen: Annotated[str, Field(max_length=64)] = Field(
        "", description="<epoch>.<refused>.<overflowed> of `status.telemetry` by the newest coordinator"
    )
    phase_unobserved_seconds: float = Field(
        0.0,
        description="seconds of a phase with a deadline that do not count: no operator was there to see, or"
        " the clocks of two differ by them",
    )


class TrainingRunStatus(ApiModel):
    """Status of a run, written by the operator alone."""

    phase: Phase | None = None  # of those that a newer release added: the nearest
    observed_generation: Whole | None = Field(None, description="of the spec that was acted upon")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        [], description="what holds, as metav1.Condition; Complete, Failed and Suspended as those of a Job"
    )
    progress: ProgressStatus | None = None
    data: DataLineage | None = None
    world: WorldStatus | None = None
    checkpoint: CheckpointStatus | None = None
    attempts: Annotated[list[Attempt], Field(max_length=ATTEMPT_LIMIT)] = Field(
        [], description="the newest ones"
    )
    failures: Annotated[dict[str, Whole], Field(max_length=16)] = Field(
        {}, description="interruptions by cause, in all"
    )
    restarts: Whole = Field(0, description="interruptions in all, beyond the attempts that are listed")
    lineage: Annotated[list[LineageEntry], Field(max_length=len(ReferenceField))] | None = Field(
        None, description="what other runs that the spec names gave to this one; absent until all is resolved"
    )
    followers: Annotated[list[DependentRun], Field(max_length=MOST_FOLLOWERS)] | None = Field(
        None, description="runs that wait for checkpoints of this one, or stand on them"
    )
    coordinator: CoordinatorStatus | None = None
    gathering: GatheringStatus | None = None
    nodes: Annotated[list[NodeStatus], Field(max_length=NODE_LIMIT)] = Field(
        [], description="nodes with strikes or a bad verdict; not written yet"
    )
    wall_seconds: TimeStatus | None = None
    goodput: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="productive share of the wall time since admission"
    )
    telemetry: TelemetryStatus | None = Field(None, description="absent while nothing is given up")
    cost: CostStatus | None = None
    revision: Annotated[str, Field(max_length=253)] = Field("", description="ControllerRevision in force")
    replicas: Whole = Field(0, description="worker pods that exist, for the scale subresource")
    selector: Annotated[str, Field(max_length=512)] = Field(
        "", description="labels of the worker pods, for the scale subresource"
    )
    start_time: Time | None = Field(None, description="when it was admitted")
    completion_time: Time | None = Field(None, description="when it ended")
    last_transition_time: Time | None = Field(None, description="since when the phase is what it is")
    written_by: Annotated[str, Field(max_length=128)] = Field(
        "", description="release of the operator that wrote this status"
    )
    internal: InternalStatus = Field(
        InternalStatus(), description="the operator's bookkeeping: its fields may change with any release"
    )

    def update_internal(self, **fields: object) -> TrainingRunStatus:
        """Return this status with other `fields` of `internal`, by their Python names."""
        return self.model_copy(update={"internal": self.internal.model_copy(update=fields)})

    @model_validator(mode="before")
    @classmethod
    def _known_phase(cls, status: Any) -> Any:
        phase = status.get("phase") if isinstance(status, Mapping) else None
        if not isinstance(phase, str) or phase in frozenset(Phase):
            return status
        return {**status, "phase": _nearest_phase(status)}


def _nearest_phase(status: Mapping[str, Any]) -> Phase | None:
    """Return the known phase nearest to that of a newer release; None if the run was never admitted."""
    if status.get("completionTime"):
        conditions = {known.get("type"): known.get("status") for known in status.get("conditions", ())}
        return Phase.SUCCEEDED if conditions.get(ConditionType.COMPLETE) == "True" else Phase.FAILED
    return Phase.RUNNING if status.get("revision") else None  # without one it was never admitted
