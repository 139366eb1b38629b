"""Samples of steps: a few prompts and answers beside a metric row, never changed once they are stored."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Double, Index, SmallInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base

_FIRST: Final = text("place = 0")


class StepSample(Base):
    """A sample of a step; `place` is its index among the step's samples, from 0.

    Samples belong to the segment of the step's row, so that a rollback writes nothing (metrics/lineage.py).
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
