"""Every pod that a status named as its run's coordinator: the senders of accepted telemetry."""

from __future__ import annotations

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class RunCoordinator(Base):
    """A coordinator pod, perhaps gone: it sends its last rows when a successor serves, or the run is deleted.

    The run's namespace and name are here as well, as a coordinator may be known before the mirror has seen
    its run. The key includes the run's uid, so that no other run's status takes a pod away from its own run.
    """

    __tablename__ = "run_coordinators"

    pod_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(253))
    epoch: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = {"sqlite_with_rowid": False}
