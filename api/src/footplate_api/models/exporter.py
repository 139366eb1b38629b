"""Lease of the replica that exports the gauges of runs: one row, on PostgreSQL alone."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base, Timestamp

THE_ROW: Final = 1


class RunExporter(Base):
    """A lease by the clock of the database: `holder` exports until `expires`, unless it renews that."""

    __tablename__ = "run_exporter"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # THE_ROW
    holder: Mapped[str] = mapped_column(String(64))
    expires: Mapped[datetime] = mapped_column(Timestamp)
