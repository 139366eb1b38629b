"""The cluster whose runs the database holds, and the newest version that mirrors have stored."""

from __future__ import annotations

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


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
