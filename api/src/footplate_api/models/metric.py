"""The metric history: one row a step, the one of the weights that exist."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class StepMetric(Base):
    """What one step measured, and the generation (epoch, number) that computed it.

    No foreign key to `runs`: telemetry may arrive before the mirror has seen the run.
    NULL stands for NaN, which SQLite cannot hold, and from `step_seconds` on for what
    was not measured; infinities are stored as they are.
    """

    __tablename__ = "step_metrics"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    number: Mapped[int] = mapped_column(BigInteger)
    time: Mapped[float | None]  # seconds since the Unix epoch
    loss: Mapped[float | None]
    gradient_norm: Mapped[float | None]
    learning_rate: Mapped[float | None]
    tokens: Mapped[int] = mapped_column(BigInteger)
    tokens_per_second: Mapped[float | None]
    sample_digest: Mapped[str] = mapped_column(Text)
    step_seconds: Mapped[float | None]
    data_seconds: Mapped[float | None]
    compute_seconds: Mapped[float | None]
    communication_seconds: Mapped[float | None]
    optimizer_seconds: Mapped[float | None]
    checkpoint_seconds: Mapped[float | None]
    validation_seconds: Mapped[float | None]
    mfu: Mapped[float | None]
    mfu_causal: Mapped[float | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    validation_loss: Mapped[float | None]

    # Rows are read by (run, step) only: keep them in that tree instead of beside it.
    __table_args__ = {"sqlite_with_rowid": False}
