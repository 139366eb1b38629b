"""Response schemas of the process's health and version."""

from __future__ import annotations

from pydantic import Field

from footplate_api.serialization.schemas import Schema


class Health(Schema):
    """Liveness of the process."""

    status: str = "ok"


class Readiness(Schema):
    """Readiness, which needs only the database: without Kubernetes the history is still served."""

    status: str = "ok"
    database: str = Field("ok", description="ok, or full: it is read, and nothing can be stored")
    kubernetes: str = Field(description="ok, or degraded: the mirror may be behind, creating may fail")
    detail: str | None = Field(None, description="what is wrong with either")


class Version(Schema):
    """Versions of the running API."""

    api: str
    contracts: str
    revision: str | None = Field(description="git revision of the build, where known")
