"""`spec.compute`, `spec.checkpoint` and `spec.resumeFrom`: nodes of a run, and storage of its state."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule, forbidden_rule
from footplate_contracts.v1alpha1.placement import Placement
from footplate_contracts.v1alpha1.types import (
    MOST_PROMOTED,
    ApiModel,
    Count,
    Label,
    Name,
    Uri,
    Whole,
    hostless_file_rule,
)

Nodes = Annotated[int, Field(ge=1, le=4096)]

# Nothing more is said of a range that has no members.
_CROSSED = "(has(self.minNodes) && has(self.maxNodes) && self.minNodes > self.maxNodes)"


class Compute(ApiModel):
    """Number of nodes, and their profile."""

    profile: Name = Field(description="name of a ComputeProfile")
    processes_per_node: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="ranks per worker pod; default: the profile's"
    )
    nodes: Nodes = Field(1, description="worker pods, one per node; `kubectl scale` changes it")
    min_nodes: Nodes | None = Field(
        None, description="fewest nodes to continue with if lost ones are not replaced; default: nodes"
    )
    max_nodes: Nodes | None = Field(None, description="upper limit of nodes; default: none")
    spares: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="idle worker pods that replace lost ones at once"
    )
    placement: Placement | None = Field(None, description="overrides the profile's, if that allows it")

    rules: ClassVar = (
        Rule(
            f"!has(self.minNodes) || {_CROSSED} || self.minNodes <= self.nodes",
            "minNodes {self.minNodes} is above nodes {self.nodes}; lower it, or raise nodes",
            field="minNodes",
        ),
        Rule(
            f"!has(self.maxNodes) || {_CROSSED} || self.maxNodes >= self.nodes",
            "maxNodes {self.maxNodes} is below nodes {self.nodes}; raise it, or lower nodes",
            field="maxNodes",
        ),
        Rule(
            f"!{_CROSSED}",
            "minNodes {self.minNodes} is above maxNodes {self.maxNodes}; lower it, or raise maxNodes",
            field="minNodes",
        ),
    )


def _checkpoint_folder(field: str) -> Rule:
    """Return the rule for URIs whose exclusive creation of a commit marker is known to hold."""
    return forbidden_rule(
        f"!has(self.{field}) || self.{field}.startsWith('file:///') || self.{field}.startsWith('s3://')"
        f" || !self.{field}.contains('://')",
        f"{field} {{self.{field}}} is not supported by this release; use a path on a mounted volume"
        " or s3://BUCKET/FOLDER",
        field=field,
    )


class MemoryCheckpoint(ApiModel):
    """Copies in the memory of the node and of a partner."""

    every_steps: Count = Field(description="steps between copies")


class Promotion(ApiModel):
    """A mark with a name on one checkpoint, which retention then keeps."""

    list_key: ClassVar = "name"

    name: Label = Field(description="name of the mark")
    step: Whole = Field(description="step of the checkpoint")


class Checkpoint(ApiModel):
    """Location and interval of durable checkpoints."""

    uri: Uri = Field(description="folder for this run only")
    every_steps: Count = Field(500, description="steps between checkpoints; may change while the run trains")
    keep_last: Annotated[int, Field(ge=1, le=10_000)] = Field(
        3, description="number of newest checkpoints to keep; may change while the run trains"
    )
    keep_every_steps: Count | None = Field(
        None, description="steps between checkpoints to keep beyond keepLast; may change while the run trains"
    )
    promoted: Annotated[list[Promotion], Field(max_length=MOST_PROMOTED)] | None = Field(
        None, description="checkpoints to keep under a name; may change at any time"
    )
    asynchronous: bool = Field(True, description="true: write while training continues")
    retry_seconds: Annotated[int, Field(ge=1, le=604_800)] | None = Field(
        None, description="retry time of failed writes while training continues; default: 3600"
    )
    memory: MemoryCheckpoint | None = None
    emergency_deadline_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        60, description="seconds that a suspended run, and a worker that must end, wait for a checkpoint"
    )

    rules: ClassVar = (_checkpoint_folder("uri"),)


class ResumeFrom(ApiModel):
    """A warm start from another run's checkpoint: its weights, and its optimizer state where that fits."""

    uri: Uri = Field(description="the other run's checkpoint.uri, or the location of a copy of that folder")
    step: Whole | None = Field(None, description="step of the checkpoint; default: the newest")

    rules: ClassVar = (hostless_file_rule("uri"),)
