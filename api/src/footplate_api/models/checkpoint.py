"""Durable checkpoints as the coordinator reported them, and their removal by retention."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


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
