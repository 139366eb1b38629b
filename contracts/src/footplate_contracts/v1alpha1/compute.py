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
        None, description="ranks in each worker pod; default: the profile's"
    )
    nodes: Nodes = Field(1, description="worker pods, one a node; `kubectl scale` changes it")
    min_nodes: Nodes | None = Field(
        None, description="so few go on where lost ones are not replaced; default: nodes"
    )
    max_nodes: Nodes | None = Field(
        None, description="nodes is not raised above this; default: no such limit"
    )
    spares: Annotated[int, Field(ge=0, le=256)] = Field(
        0, description="idle worker pods that take the places of lost ones at once"
    )
    placement: Placement | None = Field(None, description="in place of the profile's, which has to allow it")

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
            "minNodes {self.minNodes} is above maxNodes {self.maxNodes}; the smaller number comes first",
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

    every_steps: Count = Field(description="how often")


class Promotion(ApiModel):
    """A mark with a name on one checkpoint, which retention then keeps."""

    list_key: ClassVar = "name"

    name: Label = Field(description="of the mark")
    step: Whole = Field(description="of the checkpoint")


class Checkpoint(ApiModel):
    """Location and interval of durable checkpoints."""

    uri: Uri = Field(description="folder of this run alone")
    every_steps: Count = Field(500, description="how often; may change while the run trains")
    keep_last: Annotated[int, Field(ge=1, le=10_000)] = Field(
        3, description="so many stay; may change while the run trains"
    )
    keep_every_steps: Count | None = Field(
        None, description="these are kept beyond keepLast; may change while the run trains"
    )
    promoted: Annotated[list[Promotion], Field(max_length=MOST_PROMOTED)] | None = Field(
        None, description="checkpoints that are kept, and known by a name; may change at any time"
    )
    asynchronous: bool = Field(True, description="write while training goes on")
    retry_seconds: Annotated[int, Field(ge=1, le=604_800)] | None = Field(
        None, description="what fails is tried again for so long while training goes on; default: 3600"
    )
    memory: MemoryCheckpoint | None = None
    emergency_deadline_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        60, description="what a suspension, and a worker that is told to end, waits for its checkpoint"
    )

    rules: ClassVar = (_checkpoint_folder("uri"),)


class ResumeFrom(ApiModel):
    """A warm start from another run's checkpoint: its weights, and its optimizer state where that fits."""

    uri: Uri = Field(description="the other run's checkpoint.uri, or where a copy of that folder lies")
    step: Whole | None = Field(None, description="default: the newest")

    rules: ClassVar = (hostless_file_rule("uri"),)
