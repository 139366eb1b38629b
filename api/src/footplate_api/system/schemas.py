"""Answers about the process itself."""

from __future__ import annotations

from pydantic import Field

from footplate_api.schemas import Schema


class Health(Schema):
    """Alive."""

    status: str = "ok"


class Readiness(Schema):
    """Ready as soon as the database answers: without Kubernetes the history is still served."""

    status: str = "ok"
    database: str = Field("ok", description="ok, or full: it is read, and nothing can be stored")
    kubernetes: str = Field(description="ok, or degraded: the mirror may be behind, creating may fail")
    detail: str | None = Field(None, description="what is wrong with either")


class Version(Schema):
    """What runs here."""

    api: str
    contracts: str
    revision: str | None = Field(description="git revision of the build, where known")
