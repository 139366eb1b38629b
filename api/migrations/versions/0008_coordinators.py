"""Which pods coordinate runs, or did."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_PAGE = 500  # statuses, of some ten kilobytes each
_LARGEST = 2**63 - 1

_runs = sa.table(
    "runs",
    *(sa.column(name) for name in ("uid", "namespace", "name", "deleted_at")),
    sa.column("status", sa.JSON()),
)


def upgrade() -> None:
    table = op.create_table(
        "run_coordinators",
        sa.Column("pod_uid", sa.String(64), nullable=False),
        sa.Column("run_uid", sa.String(64), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pod_uid", "run_uid", name="pk_run_coordinators"),
        sqlite_with_rowid=False,
    )
    for page in _pages(op.get_bind()):
        found = [row for run in page if (row := _coordinator(run)) is not None]
        if found:
            op.bulk_insert(table, found)


def _pages(connection: sa.Connection) -> Iterator[list[Any]]:
    """The runs that live: of others nobody sends any more."""
    after = ""
    while True:
        page = connection.execute(
            sa.select(_runs.c.uid, _runs.c.namespace, _runs.c.name, _runs.c.status)
            .where(_runs.c.deleted_at.is_(None), _runs.c.uid > after)
            .order_by(_runs.c.uid)
            .limit(_PAGE)
        ).all()
        if not page:
            return
        yield list(page)
        after = page[-1].uid


def _coordinator(run: Any) -> dict[str, Any] | None:
    known = run.status.get("coordinator") if isinstance(run.status, dict) else None
    if not isinstance(known, dict):
        return None
    pod_uid, epoch = known.get("podUID"), known.get("epoch")
    if not isinstance(pod_uid, str) or not 0 < len(pod_uid) <= 64 or "\0" in pod_uid:
        return None
    if type(epoch) is not int or not 0 <= epoch <= _LARGEST:
        return None
    return {
        "pod_uid": pod_uid,
        "run_uid": run.uid,
        "namespace": run.namespace,
        "name": run.name,
        "epoch": epoch,
    }


def downgrade() -> None:
    op.drop_table("run_coordinators")
