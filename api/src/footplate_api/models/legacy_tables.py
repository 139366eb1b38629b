"""Tables of the previous release, from which rows are migrated; a later release drops them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Double, String, Table, Text

from footplate_api.models.base import Base

# One row a step, of the generation that the former release took for the newest.
STEP_METRICS: Final = Table(
    "step_metrics",
    Base.metadata,
    Column("run_uid", String(64), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("time", Double),
    Column("loss", Double),
    Column("gradient_norm", Double),
    Column("learning_rate", Double),
    Column("tokens", BigInteger, nullable=False),
    Column("tokens_per_second", Double),
    Column("sample_digest", Text, nullable=False),
    Column("step_seconds", Double),
    Column("data_seconds", Double),
    Column("compute_seconds", Double),
    Column("communication_seconds", Double),
    Column("optimizer_seconds", Double),
    Column("checkpoint_seconds", Double),
    Column("validation_seconds", Double),
    Column("mfu", Double),
    Column("mfu_causal", Double),
    Column("validation_loss", Double),
    Column("memory_bytes", BigInteger),
    Column("checkpoints_left_out", BigInteger),
    sqlite_with_rowid=False,
)
