"""Labels by which runs are found: JSON cannot be indexed, so labels are rows."""

from __future__ import annotations

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class RunLabel(Base):
    """A label of a run, or a property stored like one (labels.derived).

    Its primary key leads from a value to its runs, its index from a run to its labels.
    """

    __tablename__ = "run_labels"

    key: Mapped[str] = mapped_column(String(317), primary_key=True)
    value: Mapped[str] = mapped_column(String(253), primary_key=True)
    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)

    __table_args__ = (Index("ix_run_labels_run", "run_uid", "key", unique=True), {"sqlite_with_rowid": False})
