"""Writes that callers requested, and their results; rows are added and never changed.

A write and its result are two rows, because the first one exists before the API sends the write to
Kubernetes. Triggers refuse every other statement on them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp

LONGEST_USER: Final = 512  # characters; Kubernetes itself bounds no user name
LONGEST_VERB: Final = 32
LONGEST_NAMESPACE: Final = 63
LONGEST_NAME: Final = 253
LONGEST_ID: Final = 64
LONGEST_MESSAGE: Final = 1024


class AuditEntry(Base):
    """A write as it was requested; texts are at most as long as their columns (audit.entries)."""

    __tablename__ = "audit_entries"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    at: Mapped[datetime] = mapped_column(Timestamp)
    request_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    username: Mapped[str] = mapped_column(String(LONGEST_USER))
    user_uid: Mapped[str] = mapped_column(String(LONGEST_NAME))
    groups: Mapped[list[str]] = mapped_column(JSON)
    verb: Mapped[str] = mapped_column(String(LONGEST_VERB))
    resource: Mapped[str] = mapped_column(String(LONGEST_NAME))  # trainingruns.footplate.dev
    namespace: Mapped[str] = mapped_column(String(LONGEST_NAMESPACE))  # empty of what is in none
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))  # empty where none was given

    # Pages are walked by time; an index for each filter, so that its pages are, too.
    __table_args__ = (
        Index("ix_audit_entries_at", "at", "id"),
        Index("ix_audit_entries_namespace", "namespace", "at", "id"),
        Index("ix_audit_entries_name", "name"),
        Index("ix_audit_entries_username", "username", "at", "id"),
        Index("ix_audit_entries_verb", "verb", "at", "id"),
    )


class AuditResult(Base):
    """Result of an entry's write; absent if the API ended before it knew."""

    __tablename__ = "audit_results"

    entry_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("audit_entries.id"), primary_key=True, autoincrement=False
    )
    at: Mapped[datetime] = mapped_column(Timestamp)
    status: Mapped[int] = mapped_column(Integer)  # of HTTP
    message: Mapped[str] = mapped_column(String(LONGEST_MESSAGE))  # empty where it was done
    name: Mapped[str] = mapped_column(String(LONGEST_NAME))  # of the object, where it was asked for without
    uid: Mapped[str] = mapped_column(String(LONGEST_ID))  # of the object; empty where nobody told it

    __table_args__ = (Index("ix_audit_results_name", "name"),)
