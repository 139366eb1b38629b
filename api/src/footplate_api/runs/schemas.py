"""Request and response schemas of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic.config import JsonDict

from footplate_api.labels import selector
from footplate_api.labels.run_labels import LONGEST_VALUE
from footplate_api.runs.pagination import LONGEST
from footplate_api.runs.sort_order import RunSort
from footplate_api.serialization.schemas import FormerNamespaces, Instant, QueryParameters, Schema, Uid
from footplate_contracts.names import Phase
from footplate_contracts.v1alpha1.training import Stage
from footplate_ledger.carbon import IntensitySource

EXAMPLE: JsonDict = {
    "metadata": {"name": "tiny-decoder"},
    "spec": {
        "model": {
            "architecture": "decoder",
            "family": "llama",
            "layers": 2,
            "hiddenSize": 64,
            "attentionHeads": 4,
            "vocabularySize": 1024,
            "contextLength": 128,
        },
        "data": {"uri": "/data/shards"},
        "training": {
            "steps": 200,
            "globalBatchSize": 8,
            "microBatchSize": 2,
            "optimizer": {"name": "adamw", "learningRate": 0.001},
        },
        "compute": {"profile": "local-cpu", "nodes": 2},
        "checkpoint": {"uri": "/checkpoints/tiny-decoder", "everySteps": 50},
    },
}


class RunSubmission(Schema):
    """TrainingRun manifest; apiVersion and kind may be absent.

    `metadata` and `spec` go to the Kubernetes API server unchanged: only it knows all rules, and its error
    message is returned. A `status` is dropped, as Kubernetes does.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    api_version: Literal["footplate.dev/v1alpha1"] = "footplate.dev/v1alpha1"
    kind: Literal["TrainingRun"] = "TrainingRun"
    metadata: dict[str, Any]
    spec: dict[str, Any]
    status: dict[str, Any] | None = None


def _selector(text: str) -> str:
    selector.parse_selector(text)
    return text


_Property = Annotated[str, Field(max_length=LONGEST_VALUE, pattern=r"^[^\x00]+$")]


class RunQuery(QueryParameters):
    """Filters and sort order of a list of runs."""

    phase: Phase | None = Field(None, description="only runs in this phase")
    stage: Stage | None = Field(None, description="only runs of this stage")
    profile: _Property | None = Field(None, description="only runs with this `spec.compute.profile`")
    queue: _Property | None = Field(None, description="only runs with this `spec.queue`")
    requested_by: _Property | None = Field(None, description="only runs that this user created here")
    label_selector: Annotated[str, AfterValidator(_selector)] | None = Field(
        None,
        max_length=2000,
        description="only runs with these labels, as for `kubectl get -l`: `team=a,tier notin (x,y)`",
    )
    created_from: Instant | None = Field(None, description="only runs created at this time or later")
    created_to: Instant | None = Field(None, description="only runs created before this time")
    ended_from: Instant | None = Field(None, description="only runs that ended at this time or later")
    ended_to: Instant | None = Field(None, description="only runs that ended before this time")
    include_deleted: bool = Field(False, description="also runs that were deleted from Kubernetes")
    former_namespaces: FormerNamespaces = False
    sort: RunSort = Field(
        RunSort.NEWEST,
        description="sort order; unfinished runs sort as if they ended after all others",
    )
    limit: int = Field(50, ge=1, le=500, description="runs per page")
    cursor: str | None = Field(
        None, max_length=LONGEST, description="nextCursor of the previous page of the same query"
    )

    def filters_json(self) -> str:
        """Return the part of the query that all pages of a list have in common."""
        return self.model_dump_json(exclude={"limit", "cursor"})


class RunChoice(QueryParameters):
    """Selection of one of the runs that have had a name."""

    uid: Uid | None = None


class RunLookup(RunChoice):
    """Selection of a run, optionally from earlier namespaces of the same name."""

    former_namespaces: FormerNamespaces = False


class RunSummary(Schema):
    """Run in a list."""

    uid: str
    namespace: str
    namespace_uid: str | None = Field(
        description="uid of the run's namespace; null if the API never saw the namespace"
    )
    name: str
    stage: str | None
    phase: str | None
    step: int
    total_steps: int
    tokens: int
    loss: float | None
    created_at: datetime
    ended_at: datetime | None = Field(
        description="time when the run ended or was deleted; null before. For a run that was found missing,"
        " its last sign of life"
    )
    end_estimated: Annotated[bool, BeforeValidator(bool)] = Field(
        description="true if endedAt is only the last sign of life"
    )
    deleted_at: datetime | None = Field(
        description="time when the API noticed its deletion from Kubernetes; it may have ended long before"
    )


class RunDetail(RunSummary):
    """Run with everything that the mirror has stored."""

    generation: int
    resource_version: int
    seen_at: datetime = Field(description="time when the API last stored a change")
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]
    status: dict[str, Any]


class RunList(Schema):
    """Page of runs."""

    items: list[RunSummary]
    next_cursor: str | None = Field(description="null on the last page")


class HourlyEstimate(Schema):
    """Estimated cost of each hour with all nodes, spares included; null is unknown."""

    nodes: int | None = Field(description="allocated nodes: workers and spares")
    dollars: float | None = Field(description="cost at the current price")
    kilowatt_hours: float | None = Field(
        description="energy of the devices at their rated power, and of the rest of the nodes if the profile"
        " states it, times the data centre's PUE"
    )
    carbon_kilograms: float | None
    devices_only: bool | None = Field(description="true if energy excludes the rest of the nodes")
    carbon_rank: IntensitySource | None = Field(
        description="source of the carbon intensity: the profile, a series, the mean of a zone, of the world"
    )
    carbon_source: str | None


class RunPreview(Schema):
    """Run as Kubernetes would store it; it was not created."""

    namespace: str
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any] = Field(description="spec with all defaults")
    hourly: HourlyEstimate
