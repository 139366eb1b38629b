"""`spec.compute`, `spec.checkpoint` and `spec.resilience`: where it runs and what it survives."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.names import Cause
from footplate_contracts.rules import Rule, refuse
from footplate_contracts.v1alpha1.types import Count, Label, Name, Part, Seconds, Uri, Whole, local_path

Nodes = Annotated[int, Field(ge=1, le=4096)]


class Compute(Part):
    """How many nodes of which profile."""

    profile: Name
    processes_per_node: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="ranks in each worker pod; default: the profile's"
    )
    nodes: Nodes = 1
    min_nodes: Nodes | None = None
    max_nodes: Nodes | None = None
    spares: Annotated[int, Field(ge=0, le=256)] = 0

    rules: ClassVar = (
        Rule(
            "!has(self.minNodes) || self.minNodes <= self.nodes",
            "'minNodes ' + string(self.minNodes) + ' is above nodes ' + string(self.nodes)",
        ),
        Rule(
            "!has(self.maxNodes) || self.maxNodes >= self.nodes",
            "'maxNodes ' + string(self.maxNodes) + ' is below nodes ' + string(self.nodes)",
        ),
        Rule(
            "!has(self.minNodes) || !has(self.maxNodes) || self.minNodes <= self.maxNodes",
            "'minNodes ' + string(self.minNodes) + ' is above maxNodes ' + string(self.maxNodes)",
        ),
        Rule(
            "(!has(self.minNodes) || self.minNodes >= self.nodes)"
            " && (!has(self.maxNodes) || self.maxNodes <= self.nodes)",
            "'a range of nodes is not supported by this release; leave minNodes and maxNodes out,"
            " or at nodes ' + string(self.nodes)",
        ),
        Rule(
            "self.spares == 0",
            "'spares ' + string(self.spares) + ' is not supported by this release; leave it at 0'",
        ),
    )


class MemoryCheckpoint(Part):
    """Copies in the memory of the node and of a partner."""

    every_steps: Count


class Checkpoint(Part):
    """Where and how often the state becomes durable."""

    uri: Uri
    every_steps: Count = 500
    keep_last: Annotated[int, Field(ge=1, le=10_000)] = 3
    keep_every_steps: Count | None = Field(None, description="these are kept beyond keepLast")
    asynchronous: bool = True
    memory: MemoryCheckpoint | None = None
    emergency_deadline_seconds: Annotated[int, Field(ge=1, le=3600)] = 60

    rules: ClassVar = (local_path("uri"), refuse("memory"))


class ResumeFrom(Part):
    """A warm start from another run's checkpoint."""

    uri: Uri
    step: Whole | None = None


class Hang(Part):
    """When a standstill is a hang: max(factor x P99 of step time, floor)."""

    factor: Annotated[float, Field(ge=1.0, le=1000.0)] = 3.0
    floor_seconds: Seconds = 60


class Straggler(Part):
    """When a rank is slow: above ratio x median for so many steps."""

    ratio: Annotated[float, Field(ge=1.0, le=1000.0)] = 1.5
    steps: Count = 20


class Preflight(Part):
    """Node checks before the first step."""

    enabled: bool = False


class Resilience(Part):
    """Budgets of the failure policy and deadlines."""

    budgets: Annotated[dict[str, Annotated[int, Field(ge=0, le=1_000_000)]], Field(max_length=16)] = Field(
        default_factory=dict, description="attempts allowed by cause, beside the defaults"
    )
    startup_deadline_seconds: Annotated[int, Field(ge=1, le=604_800)] = 1200
    hang: Hang | None = None
    straggler: Straggler | None = None
    preflight: Preflight | None = None
    exclude_nodes: Annotated[list[Label], Field(max_length=256)] = []

    rules: ClassVar = (
        Rule(
            f"self.budgets.all(cause, cause in {[cause.value for cause in Cause]})",
            "'budgets names a cause that does not exist; causes are " + ", ".join(Cause) + "'",
        ),
        refuse("hang"),
        refuse("straggler"),
        refuse("preflight"),
    )
