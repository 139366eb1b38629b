"""Responses of the API, as far as other programs read them."""

from __future__ import annotations

from pydantic import Field

from footplate_contracts.base import WireMessage


class RecordedRun(WireMessage):
    """A run as the API stores it: `GET /v1/namespaces/{namespace}/runs/{name}?uid={uid}`."""

    uid: str
    phase: str | None = None
    resource_version: int = Field(ge=0)  # of the object from which it was stored
