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
    database: str = Field("ok", description="ok, or full: reads work, writes fail")
    kubernetes: str = Field(description="ok, or degraded: data may be outdated, creating may fail")
    detail: str | None = Field(None, description="problem of the database or Kubernetes")


class Version(Schema):
    """Versions of the running API."""

    api: str
    contracts: str
    revision: str | None = Field(description="git revision of the build, if known")
