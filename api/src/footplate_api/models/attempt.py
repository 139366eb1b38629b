"""Every attempt of every run that a status reported; the status itself holds the newest twenty."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp


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
