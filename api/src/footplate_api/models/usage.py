"""Usage as the operator last reported it: one row for each pod, and one for each node.

Amounts are whole numbers, or decimal numbers as text: no rounded value is stored. Times are whole seconds
since 1970, as in the ledger. A pod's row outlives its run and its namespace.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class _Held:
    """A resource with a price and its time; `end_known` and `end_until` are the evidence of its end."""

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(253))
    profile: Mapped[str] = mapped_column(String(253))
    capacity: Mapped[str] = mapped_column(String(32))
    region: Mapped[str] = mapped_column(String(253))
    provider: Mapped[str] = mapped_column(String(253))
    devices: Mapped[int] = mapped_column(BigInteger)
    millicores: Mapped[int] = mapped_column(BigInteger)
    start: Mapped[int] = mapped_column(BigInteger)
    end_known: Mapped[int] = mapped_column(SmallInteger)
    end_until: Mapped[int] = mapped_column(BigInteger)


class PodUsageRow(_Held, Base):
    """A pod on its node, from when it was bound until its containers had ended."""

    __tablename__ = "used_pods"

    owner_kind: Mapped[str] = mapped_column(String(63))
    owner_namespace: Mapped[str] = mapped_column(String(63))
    owner_name: Mapped[str] = mapped_column(String(253))
    owner_uid: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(32))
    attempt: Mapped[int] = mapped_column(BigInteger)
    node: Mapped[str] = mapped_column(String(253))
    node_devices: Mapped[int] = mapped_column(BigInteger)  # by the profile; 0 is not known
    # What the profile said when the pod was made; NULL is unknown.
    device_watts: Mapped[str | None] = mapped_column(String(32))
    node_watts: Mapped[str | None] = mapped_column(String(32))
    effectiveness: Mapped[str] = mapped_column(String(32))
    grams: Mapped[str | None] = mapped_column(String(32))
    carbon_zone: Mapped[str] = mapped_column(String(16))
    # Sums since it began, as its agent measured them.
    millijoules: Mapped[int] = mapped_column(BigInteger)
    counter_seconds: Mapped[int] = mapped_column(BigInteger)
    power_seconds: Mapped[int] = mapped_column(BigInteger)

    # Those of a run; those of a node in their time, since they share it; those of a time.
    __table_args__ = (
        Index("ix_used_pods_owner", "owner_uid", "start"),
        Index("ix_used_pods_name", "owner_namespace", "owner_name", "start"),
        Index("ix_used_pods_node", "node", "start", "end_known", "end_until"),
        Index("ix_used_pods_end", "end_known", "end_until"),
    )


class NodeUsageRow(_Held, Base):
    """A Node, from its creation until it was gone."""

    __tablename__ = "used_nodes"

    __table_args__ = (Index("ix_used_nodes_profile", "profile", "end_known"),)
