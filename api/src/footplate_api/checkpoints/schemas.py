"""Checkpoints as callers see them."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from footplate_api.schemas import FormerNamespaces, Schema, Step, Uid
from footplate_contracts.reports import CheckpointRecord


class CheckpointQuery(Schema):
    """Which checkpoints."""

    model_config = ConfigDict(extra="forbid")

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    before: Step | None = Field(None, description="only steps below; for the next page")
    limit: int = Field(100, ge=1, le=1000)


class CheckpointList(Schema):
    """Checkpoints that were committed, newest step first; retention may have removed some."""

    run_uid: str
    items: list[CheckpointRecord]
    next_before: int | None = Field(description="`before` of the next page; null on the last")
