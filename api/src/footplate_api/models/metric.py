"""The metric history: one row a step, the one of the weights that exist."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Double, String, Text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from footplate_api.models.base import Base
from footplate_contracts.metrics import COLUMNS, Scalar

_TYPES: Final[dict[Scalar, type[TypeEngine[Any]]]] = {float: Double, int: BigInteger, str: Text}


class StepMetric(Base):
    """What one step measured, and the generation (epoch, number) that computed it.

    No foreign key to `runs`: telemetry may arrive before the mirror has seen the run.
    The other columns are those of `StepMetrics`. NULL stands for NaN, which SQLite
    cannot hold, and for what was not measured; infinities are stored as they are.
    """

    __tablename__ = "step_metrics"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(BigInteger)

    # Rows are read by (run, step) only: keep them in that tree instead of beside it.
    __table_args__ = {"sqlite_with_rowid": False}


for column in COLUMNS:
    if column.name != "step":
        nullable = column.optional or column.type is float
        setattr(StepMetric, column.name, mapped_column(_TYPES[column.type], nullable=nullable))
