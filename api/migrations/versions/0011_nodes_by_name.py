"""A pod's node by its name, where Nodes cannot be seen: it is longer than a uid."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def _change(length: int, before: int) -> None:
    with op.batch_alter_table("used_pods") as table:
        table.alter_column(
            "node", type_=sa.String(length), existing_type=sa.String(before), existing_nullable=False
        )


def upgrade() -> None:
    _change(253, 64)


def downgrade() -> None:
    _change(64, 253)
