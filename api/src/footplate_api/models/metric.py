"""Metric history: a row for each step of each generation, and samples; never changed once they are stored.

A generation's rows are a segment; which of them are the run's history follows from where the segments
begin (metrics/step_ranges.py), so that a rollback writes nothing.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Double,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from footplate_api.models.base import Base
from footplate_contracts.metrics import COLUMNS, Scalar

_TYPES: Final[dict[Scalar, type[TypeEngine[Any]]]] = {float: Double, int: BigInteger, str: Text}
_FIRST: Final = text("place = 0")
# SQLite counts up a key of this very type by itself, and no other.
IDENTITY: Final = BigInteger().with_variant(Integer(), "sqlite")


class MetricSegment(Base):
    """All rows of one generation of one run.

    Of its steps up to `thinned_to` only multiples of `kept_every` are left, and the last of all.
    No foreign key to `runs`: telemetry may arrive before the mirror has seen the run.
    """

    __tablename__ = "metric_segments"

    id: Mapped[int] = mapped_column(IDENTITY, primary_key=True, autoincrement=True)
    run_uid: Mapped[str] = mapped_column(String(64))
    epoch: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(BigInteger)
    kept_every: Mapped[int] = mapped_column(BigInteger, server_default="1")
    thinned_to: Mapped[int] = mapped_column(BigInteger, server_default="0")

    __table_args__ = (UniqueConstraint("run_uid", "epoch", "number"),)


class MetricExtent(Base):
    """Steps `first_step` to `last_step` of a segment, all once stored; retention may have thinned them."""

    __tablename__ = "metric_extents"

    segment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first_step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last_step: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = {"sqlite_with_rowid": False}


class MetricValueName(Base):
    """A run's name for numbers that have no column; `number` stands for the name in its rows."""

    __tablename__ = "metric_names"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(63))

    __table_args__ = (UniqueConstraint("run_uid", "name"), {"sqlite_with_rowid": False})


class MetricRow(Base):
    """Metrics of one step.

    The other columns are those of `StepMetrics`. NULL stands for NaN, which SQLite
    cannot hold, and for what was not measured; infinities are stored as they are.
    """

    __tablename__ = "metric_rows"

    segment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    further: Mapped[bytes | None] = mapped_column(LargeBinary)  # metrics/packed_values.py

    # Rows are read by (segment, step) only: keep them in that tree instead of beside it.
    __table_args__ = {"sqlite_with_rowid": False}


class DroppedTelemetryCount(Base):
    """Number of entries that the coordinator of one epoch and its agents dropped, as last reported."""

    __tablename__ = "given_up_telemetry"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    refused: Mapped[int] = mapped_column(BigInteger)
    overflowed: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = {"sqlite_with_rowid": False}


for column in COLUMNS:
    if column.name != "step":
        nullable = column.optional or column.type is float
        setattr(MetricRow, column.name, mapped_column(_TYPES[column.type], nullable=nullable))


class StepSample(Base):
    """A sample of a step; `place` is its index among the step's samples, from 0.

    Samples belong to the segment of the step's row, so a rollback writes nothing (metrics/step_ranges.py).
    """

    __tablename__ = "step_samples"

    segment_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    prompt: Mapped[int] = mapped_column(BigInteger)
    sibling: Mapped[int] = mapped_column(BigInteger)
    prompt_text: Mapped[str] = mapped_column(Text)
    answer_text: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int] = mapped_column(BigInteger)
    end_reason: Mapped[str | None] = mapped_column(String(16))
    rewards: Mapped[str] = mapped_column(Text)  # JSON: name -> number, NaN and infinities as text
    reward: Mapped[float | None] = mapped_column(Double)
    advantage: Mapped[float | None] = mapped_column(Double)
    bytes: Mapped[int] = mapped_column(BigInteger)  # of all texts of the step

    __table_args__ = (
        Index("ix_step_samples_prompt", "segment_id", "prompt", "step"),
        # Retention counts steps and their bytes, and reads no text for that.
        Index(
            "ix_step_samples_steps",
            "segment_id",
            "step",
            "bytes",
            sqlite_where=_FIRST,
            postgresql_where=_FIRST,
        ),
    )
