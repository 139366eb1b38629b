"""Runs as the mirror saw them last; a deleted run stays, with the time of its end.

What a run was asked to be stands in a table of its own: its status changes every few
seconds and its spec hardly ever, and both are kilobytes. Setting only the columns that
changed would not do: SQLite writes a row anew whole, and so does PostgreSQL with all
that it has not moved out of the row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp

_LIVE = text("deleted_at IS NULL")
_NO_END = text("deleted_at IS NOT NULL AND ended_at IS NULL")


class Run(Base):
    """One TrainingRun, live or gone, under the uid that is never used twice.

    The wide JSON columns come after those that a list shows, but for what a migration added
    later: SQLite then reads a page of the list without touching their overflow pages. JSON
    rather than JSONB, because a spec may hold what JSONB refuses (NUL characters) and the
    mirror must not stumble over it.

    `labels`, `annotations` and `spec` are an earlier release's, which kept them here and may
    run beside this one. They are empty unless that one wrote the row last, and then they are
    newer than what `RunSpec` has.
    """

    __tablename__ = "runs"

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(63))
    # NULL: older than any namespace of this name that was ever seen, or none was.
    namespace_uid: Mapped[str | None] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(253))
    stage: Mapped[str | None] = mapped_column(String(32))
    phase: Mapped[str | None] = mapped_column(String(32))
    step: Mapped[int] = mapped_column(BigInteger)
    total_steps: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    loss: Mapped[float | None]
    generation: Mapped[int] = mapped_column(BigInteger)
    # What is shown is the run as of this version; of one that a list lacked, the version of that list.
    resource_version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    # When the mirror heard, or noticed, that Kubernetes has it no more: its end may be long before that.
    deleted_at: Mapped[datetime | None] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    end_estimated: Mapped[bool | None]
    seen_at: Mapped[datetime] = mapped_column(Timestamp)
    labels: Mapped[dict[str, Any]] = mapped_column(JSON)
    annotations: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[dict[str, Any]] = mapped_column(JSON)

    # One index per way to page: newest first within a namespace, whole or filtered. And one of the few
    # runs that an earlier release left without an end.
    __table_args__ = (
        Index("ix_runs_newest", "namespace", "created_at", "uid"),
        Index(
            "ix_runs_live_newest",
            "namespace",
            "created_at",
            "uid",
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        ),
        Index("ix_runs_gone_without_end", "uid", sqlite_where=_NO_END, postgresql_where=_NO_END),
        Index("ix_runs_phase_newest", "namespace", "phase", "created_at", "uid"),
        Index("ix_runs_stage_newest", "namespace", "stage", "created_at", "uid"),
        # For gauges: how many there are in each phase, those of a phase, those of it that changed lately.
        Index("ix_runs_live_phase", "phase", "seen_at", sqlite_where=_LIVE, postgresql_where=_LIVE),
        Index("ix_runs_name_newest", "namespace", "name", "created_at", "uid"),
    )


class RunSpec(Base):
    """What a run was asked to be; written when it changes, which `digest` tells."""

    __tablename__ = "run_specs"

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    labels: Mapped[dict[str, Any]] = mapped_column(JSON)
    annotations: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
