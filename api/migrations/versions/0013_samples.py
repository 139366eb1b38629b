"""Samples of steps, beside their rows."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_FIRST = sa.text("place = 0")


def upgrade() -> None:
    op.create_table(
        "step_samples",
        sa.Column("segment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("prompt", sa.BigInteger(), nullable=False),
        sa.Column("sibling", sa.BigInteger(), nullable=False),
        sa.Column("prompt_text", sa.Text(), nullable=False),
        sa.Column("answer_text", sa.Text(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("end_reason", sa.String(16)),
        sa.Column("rewards", sa.Text(), nullable=False),
        sa.Column("reward", sa.Double()),
        sa.Column("advantage", sa.Double()),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "step", "place", name="pk_step_samples"),
    )
    op.create_index("ix_step_samples_prompt", "step_samples", ["segment_id", "prompt", "step"])
    op.create_index(
        "ix_step_samples_steps",
        "step_samples",
        ["segment_id", "step", "bytes"],
        sqlite_where=_FIRST,
        postgresql_where=_FIRST,
    )


def downgrade() -> None:
    op.drop_table("step_samples")
