"""What was used and what it is priced by: pods, nodes, the price book, carbon intensities, profiles."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_SAID = "price_entries is append-only"


def _text(name: str, length: int, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _whole(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _held() -> list[sa.Column]:
    return [
        _text("profile", 253),
        _text("capacity", 32),
        _text("region", 253),
        _text("provider", 253),
        _whole("devices"),
        _whole("millicores"),
        _whole("start"),
        sa.Column("end_known", sa.SmallInteger(), nullable=False),
        _whole("end_until"),
    ]


def upgrade() -> None:
    op.create_table(
        "used_pods",
        _text("uid", 64),
        _text("name", 253),
        _text("owner_kind", 63),
        _text("owner_namespace", 63),
        _text("owner_name", 253),
        _text("owner_uid", 64),
        _text("role", 32),
        _whole("attempt"),
        _text("node", 64),
        _whole("node_devices"),
        *_held(),
        _text("device_watts", 32, nullable=True),
        _text("node_watts", 32, nullable=True),
        _text("effectiveness", 32),
        _text("grams", 32, nullable=True),
        _text("carbon_zone", 16),
        _whole("millijoules"),
        _whole("counter_seconds"),
        _whole("power_seconds"),
        sa.PrimaryKeyConstraint("uid", name="pk_used_pods"),
    )
    op.create_index("ix_used_pods_owner", "used_pods", ["owner_uid", "start"])
    op.create_index("ix_used_pods_name", "used_pods", ["owner_namespace", "owner_name", "start"])
    op.create_index("ix_used_pods_node", "used_pods", ["node", "start", "end_known", "end_until"])
    op.create_index("ix_used_pods_end", "used_pods", ["end_known", "end_until"])
    op.create_table(
        "used_nodes",
        _text("uid", 64),
        _text("name", 253),
        *_held(),
        sa.PrimaryKeyConstraint("uid", name="pk_used_nodes"),
    )
    op.create_index("ix_used_nodes_profile", "used_nodes", ["profile", "end_known"])
    _create_tariff()
    _guard_postgresql() if op.get_bind().dialect.name == "postgresql" else _guard_sqlite()


def _create_tariff() -> None:
    op.create_table(
        "price_entries",
        _text("name", 253),
        _text("uid", 64),
        _text("profile", 253),
        _text("capacity", 32),
        _text("provider", 63),
        _text("region", 63),
        _whole("nano_dollars"),
        _whole("effective_from"),
        _whole("effective_to", nullable=True),
        _whole("created_at"),
        _text("source", 253),
        _text("created_by", 253),
        _text("supersedes", 253),
        sa.PrimaryKeyConstraint("name", name="pk_price_entries"),
    )
    op.create_index("ix_price_entries_profile", "price_entries", ["profile", "effective_from"])
    for table in ("carbon_series", "profiles"):
        op.create_table(
            table,
            _text("name", 253),
            _text("resource_version", 64),
            sa.Column("spec", sa.JSON(), nullable=False),
            sa.PrimaryKeyConstraint("name", name=f"pk_{table}"),
        )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION prices_are_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{_SAID}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER price_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_entries"
        " FOR EACH STATEMENT EXECUTE FUNCTION prices_are_append_only()"
    )


def _guard_sqlite() -> None:
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER price_entries_no_{change.lower()} BEFORE {change} ON price_entries"
            f" BEGIN SELECT RAISE(ABORT, '{_SAID}'); END"
        )
    # INSERT OR REPLACE deletes the row that it replaces, and no trigger hears of that.
    op.execute(
        "CREATE TRIGGER price_entries_no_replacement BEFORE INSERT ON price_entries"
        " WHEN EXISTS (SELECT 1 FROM price_entries WHERE name = NEW.name)"
        f" BEGIN SELECT RAISE(ABORT, '{_SAID}'); END"
    )


def downgrade() -> None:
    for table in ("profiles", "carbon_series", "price_entries", "used_nodes", "used_pods"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION prices_are_append_only()")
