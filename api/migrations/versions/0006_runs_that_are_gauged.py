"""Finding the runs that have gauges without reading all runs, and which replica exports them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.create_index(
        "ix_runs_live_phase", "runs", ["phase", "seen_at"], sqlite_where=_LIVE, postgresql_where=_LIVE
    )
    op.create_table(
        "run_exporter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run_exporter"),
    )


def downgrade() -> None:
    op.drop_table("run_exporter")
    op.drop_index("ix_runs_live_phase", "runs")
