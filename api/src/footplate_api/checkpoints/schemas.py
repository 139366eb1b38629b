"""Checkpoints as callers see them."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from footplate_api.schemas import Schema
from footplate_contracts.reports import CheckpointRecord


class CheckpointQuery(Schema):
    """Which checkpoints."""

    model_config = ConfigDict(extra="forbid")

    uid: str | None = Field(None, description="a certain run of this name")
    before: int | None = Field(None, ge=0, description="only steps below; for the next page")
    limit: int = Field(100, ge=1, le=1000)


class CheckpointList(Schema):
    """Checkpoints that were committed, newest step first; retention may have removed some."""

    run_uid: str
    items: list[CheckpointRecord]
    next_before: int | None = Field(description="`before` of the next page; null on the last")
