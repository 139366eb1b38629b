"""The cluster whose runs the database holds, its namespaces, the lease of gauges, and idempotency keys."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp


class Installation(Base):
    """The single row, which writers of Kubernetes' objects update first, so that mirrors take turns.

    `timeline` counts how often the cluster was restored from a backup: resource versions are numbers of one
    timeline, and cannot be compared with those of another.
    """

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)  # always 1
    cluster_uid: Mapped[str | None] = mapped_column(String(64))  # of its namespace kube-system
    newest_version: Mapped[int] = mapped_column(BigInteger)  # that any mirror has heard of
    timeline: Mapped[int] = mapped_column(BigInteger)


class Namespace(Base):
    """A namespace, gone or not; the youngest namespace of a name is the current one."""

    __tablename__ = "namespaces"

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    resource_version: Mapped[int] = mapped_column(BigInteger)  # in which it was first seen
    created_at: Mapped[datetime] = mapped_column(Timestamp)

    __table_args__ = (Index("ix_namespaces_newest", "name", "created_at", "resource_version"),)


THE_ROW: Final = 1


class RunExporter(Base):
    """A lease by the clock of the database: `holder` exports until `expires`, unless it renews that."""

    __tablename__ = "run_exporter"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # THE_ROW
    holder: Mapped[str] = mapped_column(String(64))
    expires: Mapped[datetime] = mapped_column(Timestamp)


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
