"""Request and response schemas of checkpoints."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from footplate_api.serialization.schemas import FormerNamespaces, PageQuery, Schema, Uid


class CheckpointQuery(PageQuery):
    """Query parameters of a run's checkpoints."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    limit: int = Field(100, ge=1, le=1000)
    removed: bool = Field(False, description="also checkpoints that retention removed")


class CheckpointItem(Schema):
    """A committed checkpoint."""

    step: int
    uri: str = Field(description="committed directory; empty if only its removal was reported")
    committed_at: datetime
    bytes: int
    seconds_blocked: float
    seconds_total: float
    generation: str | None = Field(description="<epoch>.<number> that committed it; null if unknown")
    removed_at: datetime | None = Field(description="time when retention removed it; null while it exists")


class CheckpointList(Schema):
    """Checkpoints, newest step first, each of its step's newest generation."""

    run_uid: str
    items: list[CheckpointItem]
    next_cursor: str | None = Field(description="null on the last page")
