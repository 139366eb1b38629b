"""Who asked for which write, and what came of it: two tables to which rows are only added."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = {"audit_entries": "id", "audit_results": "entry_id"}  # by their keys
_SAID = "is append-only"


def upgrade() -> None:
    identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit_entries",
        sa.Column("id", identity, nullable=False, autoincrement=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("username", sa.String(512), nullable=False),
        sa.Column("user_uid", sa.String(253), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("verb", sa.String(32), nullable=False),
        sa.Column("resource", sa.String(253), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
    )
    op.create_table(
        "audit_results",
        sa.Column("entry_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(1024), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("uid", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_audit_results"),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["audit_entries.id"], name="fk_audit_results_entry_id_audit_entries"
        ),
    )
    op.create_index("ix_audit_entries_at", "audit_entries", ["at", "id"])
    for filtered in ("namespace", "username", "verb"):
        op.create_index(f"ix_audit_entries_{filtered}", "audit_entries", [filtered, "at", "id"])
    for table in _TABLES:
        op.create_index(f"ix_{table}_name", table, ["name"])
    _guard_postgresql() if op.get_bind().dialect.name == "postgresql" else _guard_sqlite()


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '% {_SAID}', TG_TABLE_NAME; END $$"
    )
    for table in _TABLES:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )


def _guard_sqlite() -> None:
    for table, key in _TABLES.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} {_SAID}'); END"
        for change in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} {refuse}")
        # INSERT OR REPLACE deletes the row that it replaces, and no trigger hears of that.
        known = f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"
        op.execute(f"CREATE TRIGGER {table}_no_replacement BEFORE INSERT ON {table} WHEN {known} {refuse}")


def downgrade() -> None:
    op.drop_table("audit_results")
    op.drop_table("audit_entries")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_is_append_only()")
