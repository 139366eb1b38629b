"""What the API answers for a run, as far as other programs of ours read it."""

from __future__ import annotations

from pydantic import Field

from footplate_contracts.model import Report


class RecordedRun(Report):
    """A run as the API has it: `GET /v1/namespaces/{namespace}/runs/{name}?uid={uid}`."""

    uid: str
    phase: str | None = None
    resource_version: int = Field(ge=0)  # of the object from which it was stored
