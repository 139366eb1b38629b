"""Request and response schemas of lineage."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from footplate_api.serialization.schemas import FormerNamespaces, QueryParameters, Schema, Uid

DEPTH = 32  # references that are followed from one run to the next
MOST = 1000  # references of one answer, in each direction


class LineageQuery(QueryParameters):
    """Query parameters that select one of the runs that have had this name."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False


class LineageReference(Schema):
    """Reference from one run to another: resolved once, when the run was admitted."""

    depth: int = Field(description="number of references to the requested run, from 1")
    run_uid: str = Field(description="uid of the referring run")
    field: str = Field(description="field of its spec: initFrom, reward, preference.reference, data, ...")
    uid: str = Field(description="uid of the referenced run")
    name: str
    step: int | None = Field(description="step of the referenced checkpoint; null for data")
    uri: str = Field(description="referenced directory")
    digest: str | None = Field(description="SHA-256 of its manifest, and so of its content; null if unknown")


class LineageRun(Schema):
    """A run in the lineage."""

    uid: str
    name: str
    stage: str | None
    phase: str | None = Field(description="last known phase; null also for an unknown run")
    deleted_at: datetime | None = Field(description="time when the API noticed its deletion")
    data: list[str] = Field(description="locations of the data sets in its spec")
    data_digest: str | None = Field(
        description="digest of the shards that its ranks read, equal for equal tokens at any location; null"
        " until the ranks report it"
    )
    path: str | None = Field(description="path of the run in this API; null for a run that the API never saw")


class RunLineage(Schema):
    """Ancestors and descendants of a run; deleted runs appear as the API last saw them."""

    run_uid: str
    ancestors: list[LineageReference] = Field(description="references to ancestors, nearest first")
    descendants: list[LineageReference] = Field(description="references by descendants, nearest first")
    runs: list[LineageRun] = Field(description="each run once, the requested run first")
    truncated: bool = Field(
        description=f"true if there are more than {MOST} references in a direction or {DEPTH} from run to run"
    )
