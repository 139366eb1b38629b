"""How runs ended, all of their attempts, whose namespaces they are of, and whose cluster."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NO_END = sa.text("deleted_at IS NOT NULL AND ended_at IS NULL")


def upgrade() -> None:
    op.add_column("runs", sa.Column("ended_at", sa.DateTime(timezone=True)))
    op.add_column("runs", sa.Column("end_estimated", sa.Boolean()))
    op.add_column("runs", sa.Column("namespace_uid", sa.String(64)))
    op.create_index(
        "ix_runs_gone_without_end", "runs", ["uid"], sqlite_where=_NO_END, postgresql_where=_NO_END
    )
    op.create_table(
        "run_specs",
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_run_specs"),
    )
    op.create_table(
        "namespaces",
        sa.Column("uid", sa.String(64), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("resource_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_namespaces"),
    )
    op.create_index("ix_namespaces_newest", "namespaces", ["name", "created_at", "resource_version"])
    op.create_table(
        "attempts",
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("resource_version", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True)),
        sa.Column("end", sa.DateTime(timezone=True)),
        sa.Column("nodes", sa.BigInteger(), nullable=False),
        sa.Column("incarnation", sa.BigInteger()),
        sa.Column("generation", sa.String(32), nullable=False),
        sa.Column("start_step", sa.BigInteger(), nullable=False),
        sa.Column("end_step", sa.BigInteger()),
        sa.Column("cause", sa.String(64)),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("node", sa.String(253), nullable=False),
        sa.Column("rank", sa.BigInteger()),
        sa.Column("exit_code", sa.BigInteger()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("lost_steps", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_uid", "number", name="pk_attempts"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("cluster_uid", sa.String(64)),
        sa.Column("newest_version", sa.BigInteger(), nullable=False),
        sa.Column("timeline", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
    )
    op.execute(
        "INSERT INTO installation (id, cluster_uid, newest_version, timeline)"
        " SELECT 1, NULL, coalesce(max(resource_version), 0), 0 FROM runs"
    )


def downgrade() -> None:
    op.drop_index("ix_runs_gone_without_end", "runs")
    op.drop_table("installation")
    op.drop_table("attempts")
    op.drop_table("namespaces")
    op.drop_table("run_specs")
    op.drop_column("runs", "namespace_uid")
    op.drop_column("runs", "end_estimated")
    op.drop_column("runs", "ended_at")
