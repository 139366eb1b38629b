"""Namespaces that the mirror has ever seen: a name may be used again, a uid is not."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp


class Namespace(Base):
    """A namespace, gone or not; the youngest namespace of a name is the current one."""

    __tablename__ = "namespaces"

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    resource_version: Mapped[int] = mapped_column(BigInteger)  # in which it was first seen
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("ix_namespaces_newest", "name", "created_at", "resource_version"),)
