"""Labels of runs as rows, an index for each order of a list, and keys under which runs were asked for.

The rows of `run_labels` come from the running program (pipelines/labelling.py), before it serves lists.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STALE = sa.text("labelled IS NULL OR labelled <> digest")
_FILTERED = ("namespace", "created_at", "ended_at", "deleted_at", "phase", "stage", "namespace_uid")
_ORDERS = {"creation": ("created_at",), "name": ("name", "created_at"), "end": ("ended_at", "created_at")}
_SCOPES = {"own": ("namespace",), "all": ()}
_FORMER = {
    "ix_runs_newest": ["namespace", "created_at", "uid"],
    "ix_runs_phase_newest": ["namespace", "phase", "created_at", "uid"],
    "ix_runs_stage_newest": ["namespace", "stage", "created_at", "uid"],
    "ix_runs_name_newest": ["namespace", "name", "created_at", "uid"],
}


def upgrade() -> None:
    op.create_table(
        "run_labels",
        sa.Column("key", sa.String(317), nullable=False),
        sa.Column("value", sa.String(253), nullable=False),
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("key", "value", "run_uid", name="pk_run_labels"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_labels_run", "run_labels", ["run_uid", "key"], unique=True)
    op.add_column("run_specs", sa.Column("labelled", sa.String(64)))
    op.create_index(
        "ix_run_specs_unlabelled", "run_specs", ["uid"], sqlite_where=_STALE, postgresql_where=_STALE
    )
    for scope, where in _SCOPES.items():
        for name, order in _ORDERS.items():
            behind = (column for column in _FILTERED if column not in where + order)
            op.create_index(f"ix_runs_{scope}_by_{name}", "runs", [*where, *order, "uid", *behind])
    for name in _FORMER:
        op.drop_index(name, "runs")
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_age", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    for name, columns in _FORMER.items():
        op.create_index(name, "runs", columns)
    for scope in _SCOPES:
        for name in _ORDERS:
            op.drop_index(f"ix_runs_{scope}_by_{name}", "runs")
    op.drop_index("ix_run_specs_unlabelled", "run_specs")
    op.drop_column("run_specs", "labelled")
    op.drop_index("ix_run_labels_run", "run_labels")
    op.drop_table("run_labels")
