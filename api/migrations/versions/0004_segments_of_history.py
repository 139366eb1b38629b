"""Metric rows by generation, further numbers, checkpoints with their generation, what was given up.

Rows of `step_metrics` are carried over by the running program (pipelines/carry_over.py): a former
release that still runs beside goes on writing there, and nobody waits for millions of rows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DOUBLES = (
    "time",
    "loss",
    "gradient_norm",
    "learning_rate",
    "tokens_per_second",
    "step_seconds",
    "data_seconds",
    "compute_seconds",
    "communication_seconds",
    "optimizer_seconds",
    "checkpoint_seconds",
    "validation_seconds",
    "mfu",
    "mfu_causal",
    "validation_loss",
)


def upgrade() -> None:
    _metrics()
    op.create_table(
        "given_up_telemetry",
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("overflowed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_uid", "epoch", name="pk_given_up_telemetry"),
        sqlite_with_rowid=False,
    )
    op.add_column("checkpoints", sa.Column("epoch", sa.BigInteger()))
    op.add_column("checkpoints", sa.Column("number", sa.BigInteger()))
    op.add_column("checkpoints", sa.Column("removed_at", sa.Double()))


def _metrics() -> None:
    identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "metric_segments",
        sa.Column("id", identity, nullable=False, autoincrement=True),
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kept_every", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("thinned_to", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_metric_segments"),
        sa.UniqueConstraint("run_uid", "epoch", "number", name="uq_metric_segments_run_uid_epoch_number"),
    )
    op.create_table(
        "metric_extents",
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "first_step", name="pk_metric_extents"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_names",
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.PrimaryKeyConstraint("run_uid", "number", name="pk_metric_names"),
        sa.UniqueConstraint("run_uid", "name", name="uq_metric_names_run_uid_name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_rows",
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("sample_digest", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Double()) for name in _DOUBLES),
        sa.Column("memory_bytes", sa.BigInteger()),
        sa.Column("checkpoints_left_out", sa.BigInteger()),
        sa.Column("further", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("segment_id", "step", name="pk_metric_rows"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for name in ("epoch", "number", "removed_at"):
        op.drop_column("checkpoints", name)
    for table in ("given_up_telemetry", "metric_rows", "metric_names", "metric_extents", "metric_segments"):
        op.drop_table(table)
