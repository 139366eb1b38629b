"""What runs got from other runs."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run_references",
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("field", sa.String(63), nullable=False),
        sa.Column("other_uid", sa.String(64), nullable=False),
        sa.Column("other_name", sa.String(253), nullable=False),
        sa.Column("step", sa.BigInteger()),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.PrimaryKeyConstraint("run_uid", "field", name="pk_run_references"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_references_other", "run_references", ["other_uid"])


def downgrade() -> None:
    op.drop_table("run_references")
