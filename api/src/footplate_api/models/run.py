"""Runs as the mirror last saw them; a deleted run stays, with the time of its end.

The spec of a run is in a table of its own: its status changes every few seconds and its spec hardly ever, and
both are kilobytes. Updating only the changed columns would not help: SQLite writes the whole row anew, and so
does PostgreSQL with all that it has not moved out of the row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp

_LIVE = text("deleted_at IS NULL")

# Name of an index, what it is within, the order that it gives (and then the uid).
_ORDERS: Final = {
    "creation": ("created_at",),
    "name": ("name", "created_at"),
    "end": ("ended_at", "created_at"),
}
ORDERED: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = tuple(
    (f"ix_runs_{scope}_by_{name}", where, order)
    for scope, where in (("own", ("namespace",)), ("all", ()))
    for name, order in _ORDERS.items()
)
_FILTERED: Final = ("namespace", "created_at", "ended_at", "deleted_at", "phase", "stage", "namespace_uid")


class RunRow(Base):
    """A TrainingRun, live or gone, under its uid, which is never used twice.

    The wide JSON column comes after the columns that a list shows: SQLite then reads a page of the list
    without touching its overflow pages. JSON rather than JSONB, because a status may hold what JSONB refuses
    (NUL characters) and the mirror must not fail on it.
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
    status: Mapped[dict[str, Any]] = mapped_column(JSON)

    # Two indexes for each order of a list, within a namespace and over all of them. What else a list is
    # filtered by stands behind the order: runs that are passed over are never read. Then some few for the
    # mirror (live runs) and for gauges (how many live runs there are in each phase, those of a phase, those
    # of it that changed lately).
    __table_args__ = (
        *(
            Index(index, *where, *order, "uid", *(name for name in _FILTERED if name not in where + order))
            for index, where, order in ORDERED
        ),
        Index(
            "ix_runs_live_newest",
            "namespace",
            "created_at",
            "uid",
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        ),
        Index("ix_runs_live_phase", "phase", "seen_at", sqlite_where=_LIVE, postgresql_where=_LIVE),
    )


class RunManifest(Base):
    """Labels, annotations and spec of a run; written when they change, which `digest` shows."""

    __tablename__ = "run_specs"

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    labels: Mapped[dict[str, Any]] = mapped_column(JSON)
    annotations: Mapped[dict[str, Any]] = mapped_column(JSON)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
