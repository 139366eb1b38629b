"""What of a step's time its rollout took, and scoring the samples."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_DOUBLES = ("rollout_seconds", "scoring_seconds")


def upgrade() -> None:
    for name in _DOUBLES:
        op.add_column("metric_rows", sa.Column(name, sa.Double()))


def downgrade() -> None:
    for name in _DOUBLES:
        op.drop_column("metric_rows", name)
