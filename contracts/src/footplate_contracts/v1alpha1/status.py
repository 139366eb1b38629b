"""`status` of a TrainingRun: what was seen, never what was meant.

It stays within 16 KiB: each list has a maximum, each message 1 KiB, and lists
that grow for ever keep their newest entries.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from footplate_contracts.names import Cause, Phase
from footplate_contracts.v1alpha1.types import Label, Name, Part, Text, Time, Uri, Whole

ATTEMPT_LIMIT = 20
NODE_LIMIT = 32

Duration = Annotated[float, Field(ge=0.0)]


class Condition(Part):
    """`metav1.Condition`."""

    type: Annotated[str, Field(max_length=64)]
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=7)]
    observed_generation: Whole | None = None
    last_transition_time: Time
    reason: Annotated[str, Field(min_length=1, max_length=64)]
    message: Text = ""


class ProgressStatus(Part):
    """How far the training is."""

    step: Whole = 0
    total_steps: Whole = 0
    tokens: Whole = 0
    loss: float | None = None
    percentage: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    estimated_remaining_seconds: Whole | None = None
    last_updated_time: Time | None = None


class WorldStatus(Part):
    """The generation that trains, or trained last."""

    nodes: Whole = 0
    ranks: Whole = 0
    generation: Annotated[str, Field(max_length=32)] = Field("", description="<epoch>.<number>")
    tensor: Whole = 1
    pipeline: Whole = 1
    data: Whole = 1


class CheckpointStatus(Part):
    """The newest durable checkpoint."""

    latest_step: Whole
    uri: Uri
    time: Time
    durable: bool = True


class Attempt(Part):
    """One stretch of training between two interruptions."""

    number: Whole
    start: Time
    end: Time | None = None
    nodes: Whole = 0
    generation: Annotated[str, Field(max_length=32)] = Field(
        "", description="<epoch>.<number> that trained in it; what ended one generation is one interruption"
    )
    start_step: Whole = 0
    end_step: Whole | None = None
    cause: Cause | None = None
    reason: Annotated[str, Field(max_length=64)] = ""
    node: Annotated[str, Field(max_length=253)] = ""
    rank: Whole | None = None
    exit_code: int | None = None
    message: Text = ""
    lost_steps: Whole = 0


class CoordinatorStatus(Part):
    """The coordinator pod; the API trusts a token of this pod only."""

    pod_name: Name
    pod_uid: Annotated[str, Field(max_length=64, alias="podUID")] = ""
    address: Annotated[str, Field(max_length=64)] = ""
    epoch: Whole = 0


class NodeStatus(Part):
    """A node with strikes or a bad verdict."""

    name: Label
    strikes: Whole = 0
    message: Text = ""


class TimeStatus(Part):
    """Where the wall time went, in seconds; the members add up to it."""

    queued: Duration = 0.0
    starting: Duration = 0.0
    productive: Duration = 0.0
    checkpointing: Duration = 0.0
    recomputed: Duration = 0.0
    restarting: Duration = 0.0
    suspended: Duration = 0.0


class CostStatus(Part):
    """What the run has cost so far."""

    dollars: Duration = 0.0
    kilowatt_hours: Duration = 0.0
    carbon_kilograms: Duration = 0.0
    method: Annotated[str, Field(max_length=64)] = ""


class TrainingRunStatus(Part):
    """Written by the operator alone."""

    phase: Phase | None = None
    observed_generation: Whole | None = None
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    progress: ProgressStatus | None = None
    world: WorldStatus | None = None
    checkpoint: CheckpointStatus | None = None
    attempts: Annotated[list[Attempt], Field(max_length=ATTEMPT_LIMIT)] = []
    failures: Annotated[dict[str, Whole], Field(max_length=16)] = {}
    restarts: Whole = Field(0, description="interruptions in all, beyond the attempts that are listed")
    coordinator: CoordinatorStatus | None = None
    nodes: Annotated[list[NodeStatus], Field(max_length=NODE_LIMIT)] = []
    time: TimeStatus | None = None
    goodput: Annotated[float, Field(ge=0.0, le=1.0)] | None = Field(
        None, description="productive share of the wall time since admission"
    )
    cost: CostStatus | None = None
    revision: Annotated[str, Field(max_length=253)] = Field("", description="ControllerRevision in force")
    replicas: Whole = Field(0, description="worker pods that exist, for the scale subresource")
    selector: Annotated[str, Field(max_length=512)] = ""
    start_time: Time | None = None
    completion_time: Time | None = None
    phase_time: Time | None = Field(None, description="since when the phase is what it is")
    failures_seen: Annotated[str, Field(max_length=64)] = Field(
        "", description="<epoch>.<number> of the newest failure counted, so that none counts twice"
    )
    incarnation: Whole = Field(
        0, description="newest incarnation of any worker; a substitute gets the next, so that no name returns"
    )
