"""Inputs of costs: the price book, carbon intensities, and profiles.

Entries of the book are added and never changed, which triggers enforce; intensities and profiles are as
Kubernetes has them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class PriceEntryRow(Base):
    """A PriceEntry; times are whole seconds since 1970, an absent `effective_to` is never."""

    __tablename__ = "price_entries"

    name: Mapped[str] = mapped_column(String(253), primary_key=True)
    uid: Mapped[str] = mapped_column(String(64))
    profile: Mapped[str] = mapped_column(String(253))
    capacity: Mapped[str] = mapped_column(String(32))
    provider: Mapped[str] = mapped_column(String(63))
    region: Mapped[str] = mapped_column(String(63))
    nano_dollars: Mapped[int] = mapped_column(BigInteger)  # of one node for one hour
    effective_from: Mapped[int] = mapped_column(BigInteger)
    effective_to: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)  # when Kubernetes took the object
    source: Mapped[str] = mapped_column(String(253))
    created_by: Mapped[str] = mapped_column(String(253))
    supersedes: Mapped[str] = mapped_column(String(253))

    __table_args__ = (Index("ix_price_entries_profile", "profile", "effective_from"),)


class CarbonSeries(Base):
    """Spec of a CarbonIntensity."""

    __tablename__ = "carbon_series"

    name: Mapped[str] = mapped_column(String(253), primary_key=True)
    resource_version: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)


class ComputeProfileRow(Base):
    """Spec of a ComputeProfile."""

    __tablename__ = "profiles"

    name: Mapped[str] = mapped_column(String(253), primary_key=True)
    resource_version: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
