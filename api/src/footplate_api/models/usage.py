"""Usage as the operator last reported it: one row for each pod, and one for each node.

`usage` is the whole of it as JSON (`footplate_ledger.usage_json`), exact; the other columns are those of its
fields by which rows are found. Times are whole seconds since 1970, as in the ledger. A pod's row outlives its
run and its namespace.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from footplate_api.models.base import Base


class _UsageRow:
    """Usage over a time; `end_known` and `end_until` are the evidence of its end."""

    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger)
    end_known: Mapped[int] = mapped_column(SmallInteger)
    end_until: Mapped[int] = mapped_column(BigInteger)
    usage: Mapped[str] = mapped_column(Text)


class PodUsageRow(_UsageRow, Base):
    """A pod on its node, from when it was bound until its containers had ended."""

    __tablename__ = "used_pods"

    owner_namespace: Mapped[str] = mapped_column(String(63))
    owner_name: Mapped[str] = mapped_column(String(253))
    owner_uid: Mapped[str] = mapped_column(String(64))
    node: Mapped[str] = mapped_column(String(253))

    # Those of a run; those of a node in their time, since they share it; those of a time.
    __table_args__ = (
        Index("ix_used_pods_owner", "owner_uid", "start"),
        Index("ix_used_pods_name", "owner_namespace", "owner_name", "start"),
        Index("ix_used_pods_node", "node", "start", "end_known", "end_until"),
        Index("ix_used_pods_end", "end_known", "end_until"),
    )


class NodeUsageRow(_UsageRow, Base):
    """A Node, from its creation until it was gone."""

    __tablename__ = "used_nodes"

    profile: Mapped[str] = mapped_column(String(253))
    capacity: Mapped[str] = mapped_column(String(32))
    region: Mapped[str] = mapped_column(String(253))
    provider: Mapped[str] = mapped_column(String(253))

    __table_args__ = (Index("ix_used_nodes_profile", "profile", "end_known"),)
