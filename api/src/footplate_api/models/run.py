"""Runs as the mirror last saw them, with their labels, references, attempts, checkpoints and coordinators.

A deleted run stays, with the time of its end.

The spec of a run is in a table of its own: its status changes every few seconds and its spec hardly ever, and
both are kilobytes. Updating only the changed columns would not help: SQLite writes the whole row anew, and so
does PostgreSQL with all that it has not moved out of the row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Index, String, Text, text
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


class RunLabel(Base):
    """A label of a run, or a property stored like one (labels.run_labels).

    Its primary key leads from a value to its runs, its index from a run to its labels.
    """

    __tablename__ = "run_labels"

    key: Mapped[str] = mapped_column(String(317), primary_key=True)
    value: Mapped[str] = mapped_column(String(253), primary_key=True)
    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)

    __table_args__ = (Index("ix_run_labels_run", "run_uid", "key", unique=True), {"sqlite_with_rowid": False})


class RunReferenceRow(Base):
    """A field of a run's spec that names another run, and the result: immutable, as the field is.

    No foreign key: the other run may be gone before the mirror ever saw it.
    """

    __tablename__ = "run_references"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    field: Mapped[str] = mapped_column(String(63), primary_key=True)
    other_uid: Mapped[str] = mapped_column(String(64))
    other_name: Mapped[str] = mapped_column(String(253))
    step: Mapped[int | None] = mapped_column(BigInteger)  # of its checkpoint; NULL where it gave data
    uri: Mapped[str] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (Index("ix_run_references_other", "other_uid"), {"sqlite_with_rowid": False})


class AttemptRow(Base):
    """Training between two interruptions, as in `AttemptRow` of the status."""

    __tablename__ = "attempts"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # Of the run whose status first said it so: what an older status says is not taken over.
    resource_version: Mapped[int] = mapped_column(BigInteger)
    start: Mapped[datetime | None] = mapped_column(Timestamp)
    end: Mapped[datetime | None] = mapped_column(Timestamp)
    nodes: Mapped[int] = mapped_column(BigInteger)
    incarnation: Mapped[int | None] = mapped_column(BigInteger)
    generation: Mapped[str] = mapped_column(String(32))
    start_step: Mapped[int] = mapped_column(BigInteger)
    end_step: Mapped[int | None] = mapped_column(BigInteger)
    cause: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(64))
    node: Mapped[str] = mapped_column(String(253))
    rank: Mapped[int | None] = mapped_column(BigInteger)
    exit_code: Mapped[int | None] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)
    lost_steps: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = {"sqlite_with_rowid": False}


class CheckpointRow(Base):
    """A step's checkpoint that its newest generation committed; times in seconds.

    `epoch` and `number` are NULL in rows of releases that did not store the generation,
    `uri` is empty if only the removal was reported.
    """

    __tablename__ = "checkpoints"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    time: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger)
    seconds_blocked: Mapped[float]
    seconds_total: Mapped[float]
    epoch: Mapped[int | None] = mapped_column(BigInteger)
    number: Mapped[int | None] = mapped_column(BigInteger)
    removed_at: Mapped[float | None]

    __table_args__ = {"sqlite_with_rowid": False}


class RunCoordinator(Base):
    """A coordinator pod, perhaps gone: it sends its last rows when a successor serves, or the run is deleted.

    The run's namespace and name are here as well, as a coordinator may be known before the mirror has seen
    its run. The key includes the run's uid, so that no other run's status takes a pod away from its own run.
    """

    __tablename__ = "run_coordinators"

    pod_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(253))
    epoch: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = {"sqlite_with_rowid": False}
