"""Idempotency keys of requests for runs, with the responses: a repeated request gets the same one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp


class IdempotencyKey(Base):
    """An idempotency key of a caller."""

    __tablename__ = "idempotency_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)  # a digest of caller and key
    request: Mapped[str] = mapped_column(String(64))  # a digest of what was asked for
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    answer: Mapped[str | None] = mapped_column(
        Text
    )  # JSON; NULL while it is not known whether there is a run

    __table_args__ = (Index("ix_idempotency_keys_age", "created_at"),)
