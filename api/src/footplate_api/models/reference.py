"""References from runs to other runs: for weights, reference models, rewards and data."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class RunReferenceRow(Base):
    """A field of a run's spec that names another run, and the result: immutable, as the field is.

    No foreign key: the other run may be gone before the mirror ever saw it.
    """

    __tablename__ = "run_references"

    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    field: Mapped[str] = mapped_column(String(63), primary_key=True)
    other_uid: Mapped[str] = mapped_column(String(64))
    other_name: Mapped[str] = mapped_column(String(253))
    step: Mapped[int | None] = mapped_column(BigInteger)  # of its checkpoint; NULL where it gave data
    uri: Mapped[str] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(String(64))

    __table_args__ = (Index("ix_run_references_other", "other_uid"), {"sqlite_with_rowid": False})
