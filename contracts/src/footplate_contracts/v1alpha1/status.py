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

    type: Annotated[str, Field(max_length=64)] = Field(description="type of the condition")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=7)] = Field(
        description="True, False or Unknown"
    )
    observed_generation: Whole | None = Field(None, description="generation of the spec it describes")
    last_transition_time: Time = Field(description="time of the last change of status")
    reason: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="CamelCase reason")
    message: Text = Field("", description="explanation for people")


class ProgressStatus(ApiModel):
    """Progress of the training."""

    step: Whole = Field(0, description="last finished optimizer step")
    total_steps: Whole = Field(0, description="total number of steps")
    tokens: Whole = Field(0, description="tokens trained on")
    loss: float | None = Field(None, description="loss of that step")
    percentage: Annotated[float, Field(ge=0.0, le=100.0)] = Field(0.0, description="percentage of the steps")
    estimated_remaining_seconds: Whole | None = Field(None, description="estimate at the current speed")
    phase: Label | None = Field(None, description="rollout or scoring while any rank is in it; else absent")
    completed_items: Whole | None = Field(None, description="tokens sampled or samples scored in that phase")
    last_updated_time: Time | None = Field(None, description="time of the observation")


class DataLineage(ApiModel):
    """Data that the run read and wrote, as its ranks reported."""

    digest: DataDigest | None = Field(
        None, description="digest of the shards read: equal for equal tokens, wherever stored"
    )
    answers: Digest | None = Field(
        None, description="stage generate: SHA-256 of manifest.json in rollout.output.uri, once written"
    )


class WorldStatus(ApiModel):
    """The generation that trains, or trained last."""

    nodes: Whole = Field(0, description="worker pods")
    ranks: Whole = Field(0, description="ranks")
    generation: Annotated[str, Field(max_length=32)] = Field("", description="<epoch>.<number>")
    tensor: Whole = Field(1, description="ranks that share each matrix")
    pipeline: Whole = Field(1, description="ranks that share the layers")
    data: Whole = Field(1, description="ranks that share the batch")
    spares: Whole = Field(0, description="spare pods that are ready to replace a worker")


class RetainedCheckpointStatus(ApiModel):
    """A durable checkpoint that retention leaves."""

    step: Whole = Field(description="step of the checkpoint")
    generation: Annotated[str, Field(max_length=32)] = Field(description="<epoch>.<number> that committed it")
    digest: Digest | None = Field(None, description="SHA-256 of its manifest.json, which covers all of it")
    validation_loss: float | None = Field(None, description="loss of its weights, if measured at that step")

    @property
    def directory(self) -> str:
        """Its directory in checkpoint.uri."""
        epoch, _, number = self.generation.partition(".")
        return f"step-{self.step}.e{epoch}g{number}"


class PromotedCheckpoint(ApiModel):
    """A mark of `spec.checkpoint.promoted`, and its checkpoint."""

    list_key: ClassVar = "name"

    name: Label = Field(description="name of the mark")
    step: Whole = Field(description="step of the checkpoint")
    directory: Annotated[str, Field(max_length=DIRECTORY_LIMIT)] | None = Field(
        None, description="directory in checkpoint.uri; absent: the checkpoint is not among those kept"
    )
    digest: Digest | None = Field(None, description="SHA-256 of its manifest.json, which covers all of it")


class CheckpointStatus(ApiModel):
    """The newest durable checkpoint, and the others that retention leaves."""

    latest_step: Whole = Field(description="step of the checkpoint")
    uri: CheckpointUri = Field(description="folder of the checkpoint")
    last_committed_time: Time = Field(description="time of its completion")
    durable: bool = Field(True, description="true: it survives the loss of the nodes")
    recent_steps: Annotated[list[Whole], Field(max_length=3)] = Field(
        [],
        description="last three durable ones, ascending: restart limits count at least since the first",
    )
    kept: Annotated[list[RetainedCheckpointStatus], Field(max_length=MOST_STANDING)] | None = Field(
        None,
        description="checkpoints that retention kept, newest first; absent from earlier trainers",
    )
    best_step: Whole | None = Field(None, description="step of the one with the lowest validation loss")
    promoted: Annotated[list[PromotedCheckpoint], Field(max_length=MOST_PROMOTED)] | None = Field(
        None, description="checkpoints with a mark"
    )


def _cause(cause: object) -> object:
    return Cause.unknown(cause) if isinstance(cause, str) and cause not in frozenset(Cause) else cause


class Attempt(ApiModel):
    """A period of training between two interruptions."""

    number: Whole = Field(description="number of the attempt, from 1")
    start: Time = Field(description="time of its start")
    end: Time | None = Field(None, description="time of its end; absent while it runs")
    nodes: Whole = Field(0, description="worker pods")
    incarnation: Whole | None = Field(
        None, description="newest incarnation of any worker at its start; its own pods have later ones"
    )
    generation: Annotated[str, Field(max_length=32)] = Field(
        "", description="<epoch>.<number> that trained; the end of a generation is one interruption"
    )
    start_step: Whole = Field(0, description="first step")
    end_step: Whole | None = Field(None, description="last step")
    cause: Annotated[Cause | None, BeforeValidator(_cause)] = None
    reason: Annotated[str, Field(max_length=64)] = Field("", description="reason of its end, in CamelCase")
    node: Annotated[str, Field(max_length=253)] = Field("", description="node that caused its end")
    rank: Whole | None = Field(None, description="the first rank that failed")
    exit_code: int | None = Field(None, description="exit code of that rank")
    message: Text = Field("", description="explanation for people")
    lost_steps: Whole = Field(0, description="steps that must be repeated")


class RecentFailures(ApiModel):
    """Failures of one hour before one checkpoint, which still count against restart limits."""

    hour: Time = Field(description="hour of the failures, by its beginning")
    checkpoint_step: Whole = Field(0, description="step of the newest durable checkpoint then; 0: none")
    failures: Annotated[dict[str, Whole], Field(max_length=16)] = Field(description="failures by cause")


class CoordinatorStatus(ApiModel):
    """The coordinator pod; the API trusts a token of this pod only."""

    pod_name: Name = Field(description="name of the pod")
    pod_uid: Annotated[str, Field(max_length=64, alias="podUID")] = Field("", description="uid of the pod")
    address: Annotated[str, Field(max_length=64)] = Field("", description="IP address of the pod")
    epoch: Whole = Field(0, description="number that rises with each new pod")


class GatheringStatus(ApiModel):
    """Wait of a run for nodes; absent once every worker is bound to one."""

    since: Time = Field(description="time since which the run has waited")
    turn_time: Time | None = Field(None, description="time of its pods' creation; absent while it has none")
    released_time: Time | None = Field(None, description="time at which it last deleted such pods")
    lost_turns: Whole = Field(0, description="turns that ended before all its workers were bound")


class NodeStatus(ApiModel):
    """A node with strikes or a bad verdict."""

    name: Label = Field(description="name of the node")
    strikes: Whole = Field(0, description="faults counted against it")
    message: Text = Field("", description="latest fault")


class TimeStatus(ApiModel):
    """Seconds of wall time by activity; the members add up to it."""

    queued: Duration = Field(0.0, description="waiting for admission")
    starting: Duration = Field(0.0, description="pods, rendezvous, loading")
    productive: Duration = Field(0.0, description="steps that counted")
    checkpointing: Duration = Field(0.0, description="training blocked by a checkpoint")
    recomputed: Duration = Field(0.0, description="steps repeated after an interruption")
    restarting: Duration = Field(0.0, description="recovery after faults")
    suspended: Duration = Field(0.0, description="suspended by a user or a queue")


class TelemetryStatus(ApiModel):
    """Entries that will never be in the run's history: rows, and records of checkpoints."""

    refused: Whole = Field(0, description="entries that the API rejects for good")
    overflowed: Whole = Field(0, description="entries that did not fit into a worker's outbox")


class DeviceTime(ApiModel):
    """Time of the devices of all pods by activity, in device-seconds."""

    productive: Duration = Field(0.0, description="steps that counted")
    checkpointing: Duration = Field(0.0, description="training blocked by a checkpoint")
    recomputed: Duration = Field(0.0, description="steps repeated after an interruption")
    starting: Duration = Field(0.0, description="pods, rendezvous, loading")
    restarting: Duration = Field(0.0, description="recovery after faults")
    waiting: Duration = Field(0.0, description="devices held without training, and spares")


class EnergyByMethod(ApiModel):
    """Joules, including cooling (PUE), by measuring method."""

    counter: Duration = Field(0.0, description="measured by the devices' energy counters")
    power: Duration = Field(0.0, description="measured by power samples of the devices")
    rated: Duration = Field(0.0, description="estimated from rated power of devices and rest of nodes")


class CostStatus(ApiModel):
    """Cost of the run so far; unknown amounts are absent, and never 0."""

    dollars: Duration | None = Field(None, description="nodes x hours x price, for node time with a price")
    kilowatt_hours: Duration | None = Field(None, description="energy, including cooling (PUE)")
    joules: EnergyByMethod | None = Field(None, description="the same energy by method")
    carbon_kilograms: Duration | None = Field(None, description="CO2 equivalent at the place of consumption")
    method: Annotated[str, Field(max_length=64)] = Field(
        "", description="methods behind the energy: shares of counter, power, rated, unknown"
    )
    devices_only: bool = Field(False, description="true: energy excludes the rest of the nodes")
    carbon_source: Annotated[str, Field(max_length=64)] = Field(
        "", description="sources of the carbon intensity: shares of profile, series, zone, world"
    )
    node_seconds: Duration = Field(0.0, description="node time held by the run's pods")
    unpriced_node_seconds: Duration = Field(0.0, description="node time without a price")
    estimated_node_seconds: Duration = Field(0.0, description="node time of pods whose end was not observed")
    device_seconds: DeviceTime | None = Field(None, description="absent if no pod holds a device")
    until: Time | None = Field(None, description="end of the time that the amounts cover")


class InternalStatus(ApiModel):
    """Bookkeeping from which the next leader continues, so that nothing counts or is named twice."""

    incarnation: Whole = Field(
        0, description="newest incarnation of any worker; substitutes get new ones and new names"
    )
    failures_seen: Annotated[str, Field(max_length=64)] = Field(
        "", description="newest failure counted, <epoch>.<number>"
    )
    failures_seen_by_cause: Annotated[dict[str, Whole], Field(max_length=16)] = Field(
        {}, description="failures by cause of that epoch's coordinator, up to that number"
    )
    recent_failures: Annotated[list[RecentFailures], Field(max_length=RECENT_LIMIT)] | None = Field(
        None,
        description="part of `status.failures` that restart limits count: since the third-newest durable"
        " checkpoint, and at least of this hour and the 24 before",
    )
    telemetry_seen: Annotated[str, Field(max_length=64)] = Field(
        "", description="<epoch>.<refused>.<overflowed> of the newest coordinator"
    )
    phase_unobserved_seconds: float = Field(
        0.0,
        description="seconds of a phase with a deadline that do not count, because no operator observed"
        " them or two clocks differ by them",
    )


class TrainingRunStatus(ApiModel):
    """Status of a run, written by the operator alone."""

    phase: Phase | None = None  # of those that a newer release added: the nearest
    observed_generation: Whole | None = Field(None, description="generation of the spec last acted on")
    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        [], description="conditions, as metav1.Condition; Complete, Failed and Suspended as in a Job"
    )
    progress: ProgressStatus | None = None
    data: DataLineage | None = None
    world: WorldStatus | None = None
    checkpoint: CheckpointStatus | None = None
    attempts: Annotated[list[Attempt], Field(max_length=ATTEMPT_LIMIT)] = Field(
        [], description="newest attempts"
    )
    failures: Annotated[dict[str, Whole], Field(max_length=16)] = Field(
        {}, description="all interruptions by cause"
    )
    restarts: Whole = Field(0, description="number of all interruptions, also before the attempts listed")
    lineage: Annotated[list[LineageEntry], Field(max_length=len(ReferenceField))] | None = Field(
        None, description="artifacts of other runs that the spec names; absent until all are resolved"
    )
    followers: Annotated[list[DependentRun], Field(max_length=MOST_FOLLOWERS)] | None = Field(
        None, description="runs that wait for checkpoints of this one, or use them"
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
    telemetry: TelemetryStatus | None = Field(None, description="telemetry lost; absent if none")
    cost: CostStatus | None = None
    revision: Annotated[str, Field(max_length=253)] = Field("", description="current ControllerRevision")
    replicas: Whole = Field(0, description="existing worker pods, for the scale subresource")
    selector: Annotated[str, Field(max_length=512)] = Field(
        "", description="label selector of the worker pods, for the scale subresource"
    )
    start_time: Time | None = Field(None, description="time of admission")
    completion_time: Time | None = Field(None, description="time of its end")
    last_transition_time: Time | None = Field(None, description="time of the last change of phase")
    written_by: Annotated[str, Field(max_length=128)] = Field(
        "", description="release of the operator that wrote this status"
    )
    internal: InternalStatus = Field(
        InternalStatus(), description="operator's bookkeeping, whose fields may change with any release"
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
