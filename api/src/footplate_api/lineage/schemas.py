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

    depth: int = Field(description="references between it and the run that was asked for; 1 is its own")
    run_uid: str = Field(description="of the run that names the other")
    field: str = Field(description="of its spec: initFrom, reward, preference.reference, data, ...")
    uid: str = Field(description="of the run that is named")
    name: str
    step: int | None = Field(description="of its checkpoint; null where it gave data")
    uri: str = Field(description="the directory")
    digest: str | None = Field(description="SHA-256 of its manifest, and so of all of it; null where unknown")


class LineageRun(Schema):
    """A run in the lineage."""

    uid: str
    name: str
    stage: str | None
    phase: str | None = Field(description="as it was seen last; null also of a run that was never seen")
    deleted_at: datetime | None = Field(description="when it was noticed that Kubernetes has it no more")
    data: list[str] = Field(description="where the data sets lie that its spec names")
    data_digest: str | None = Field(
        description="of the shards that its ranks read, equal for equal tokens wherever they lie; null until"
        " they told it"
    )
    path: str | None = Field(
        description="of this API, for all that is known of it; null of a run that was never seen"
    )


class RunLineage(Schema):
    """Ancestors and descendants of a run; deleted runs appear as the API last saw them."""

    run_uid: str
    ancestors: list[LineageReference] = Field(description="upwards, the nearest first")
    descendants: list[LineageReference] = Field(description="downwards, the nearest first")
    runs: list[LineageRun] = Field(description="each once, the one that was asked for first")
    truncated: bool = Field(
        description=f"there is more: beyond {MOST} references in a direction, or {DEPTH} from run to run"
    )
