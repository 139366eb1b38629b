"""Durable checkpoints as the coordinator reported them."""

from __future__ import annotations

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class Checkpoint(Base):
    """The newest committed checkpoint of one step; times in seconds."""

    __tablename__ = "checkpoints"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    time: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger)
    seconds_blocked: Mapped[float]
    seconds_total: Mapped[float]

    __table_args__ = {"sqlite_with_rowid": False}
