"""How many checkpoints came to nothing while storage failed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("step_metrics", sa.Column("checkpoints_left_out", sa.BigInteger()))


def downgrade() -> None:
    op.drop_column("step_metrics", "checkpoints_left_out")
