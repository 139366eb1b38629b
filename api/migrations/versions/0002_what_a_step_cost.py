"""What a step cost, and the validation loss."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_DOUBLES = (
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
    for name in _DOUBLES:
        op.add_column("step_metrics", sa.Column(name, sa.Double()))
    op.add_column("step_metrics", sa.Column("memory_bytes", sa.BigInteger()))


def downgrade() -> None:
    for name in (*_DOUBLES, "memory_bytes"):
        op.drop_column("step_metrics", name)
