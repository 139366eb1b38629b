"""Runs, step metrics and checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("stage", sa.String(32)),
        sa.Column("phase", sa.String(32)),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("total_steps", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Double()),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("resource_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("status", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_runs"),
    )
    op.create_index("ix_runs_newest", "runs", ["namespace", "created_at", "uid"])
    op.create_index(
        "ix_runs_live_newest",
        "runs",
        ["namespace", "created_at", "uid"],
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_index("ix_runs_phase_newest", "runs", ["namespace", "phase", "created_at", "uid"])
    op.create_index("ix_runs_stage_newest", "runs", ["namespace", "stage", "created_at", "uid"])
    op.create_index("ix_runs_name_newest", "runs", ["namespace", "name", "created_at", "uid"])
    op.create_table(
        "step_metrics",
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.Double()),
        sa.Column("loss", sa.Double()),
        sa.Column("gradient_norm", sa.Double()),
        sa.Column("learning_rate", sa.Double()),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("tokens_per_second", sa.Double()),
        sa.Column("sample_digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_uid", "step", name="pk_step_metrics"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "checkpoints",
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("seconds_blocked", sa.Double(), nullable=False),
        sa.Column("seconds_total", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_uid", "step", name="pk_checkpoints"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("checkpoints")
    op.drop_table("step_metrics")
    op.drop_table("runs")
