"""Initial schema of release 0.1.0; revisions 0001 to 0015 were development versions."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = None
branch_labels = None
depends_on = None

_LIVE = sa.text("deleted_at IS NULL")
_FIRST = sa.text("place = 0")
_APPEND_ONLY = "is append-only"
_AUDIT_KEYS = {"audit_entries": "id", "audit_results": "entry_id"}
_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_RUN_ORDERS = {
    "creation": ("created_at",),
    "name": ("name", "created_at"),
    "end": ("ended_at", "created_at"),
}
_RUN_SCOPES = {"own": ("namespace",), "all": ()}
_RUN_FILTERS = ("namespace", "created_at", "ended_at", "deleted_at", "phase", "stage", "namespace_uid")

_STEP_DOUBLES = (
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


def _text(name: str, length: int, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _long_text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False)


def _integer(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=nullable, autoincrement=False)


def _identity(name: str) -> sa.Column:
    return sa.Column(name, _IDENTITY, nullable=False, autoincrement=True)


def _double(name: str, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _json(name: str) -> sa.Column:
    return sa.Column(name, sa.JSON(), nullable=False)


def _table(
    name: str, key: Sequence[str], *columns: sa.Column | sa.Constraint, with_rowid: bool = True
) -> None:
    """Create a table; `with_rowid` False keeps SQLite's rows in the tree of their primary key."""
    options = {} if with_rowid else {"sqlite_with_rowid": False}
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"), **options)


def _partial_index(name: str, table: str, columns: Sequence[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    _create_runs()
    _create_run_details()
    _create_metrics()
    _create_samples()
    _create_installation()
    _create_audit()
    _create_usage()
    _create_tariff()
    _create_triggers_of_postgresql() if _is_postgresql() else _create_triggers_of_sqlite()


def _create_runs() -> None:
    _table(
        "runs",
        ("uid",),
        _text("uid", 64),
        _text("namespace", 63),
        _text("name", 253),
        _text("stage", 32, nullable=True),
        _text("phase", 32, nullable=True),
        _integer("step"),
        _integer("total_steps"),
        _integer("tokens"),
        _double("loss"),
        _integer("generation"),
        _integer("resource_version"),
        _time("created_at"),
        _time("deleted_at", nullable=True),
        _time("seen_at"),
        _time("ended_at", nullable=True),
        sa.Column("end_estimated", sa.Boolean()),
        _text("namespace_uid", 64, nullable=True),
        _json("status"),
    )
    for scope, where in _RUN_SCOPES.items():
        for name, order in _RUN_ORDERS.items():
            filters = (column for column in _RUN_FILTERS if column not in where + order)
            op.create_index(f"ix_runs_{scope}_by_{name}", "runs", [*where, *order, "uid", *filters])
    _partial_index("ix_runs_live_newest", "runs", ["namespace", "created_at", "uid"], _LIVE)
    _partial_index("ix_runs_live_phase", "runs", ["phase", "seen_at"], _LIVE)
    _table(
        "run_specs",
        ("uid",),
        _text("uid", 64),
        _text("digest", 64),
        _json("labels"),
        _json("annotations"),
        _json("spec"),
    )
    _table(
        "run_labels",
        ("key", "value", "run_uid"),
        _text("key", 317),
        _text("value", 253),
        _text("run_uid", 64),
        with_rowid=False,
    )
    op.create_index("ix_run_labels_run", "run_labels", ["run_uid", "key"], unique=True)


def _create_run_details() -> None:
    _table(
        "checkpoints",
        ("run_uid", "step"),
        _text("run_uid", 64),
        _integer("step"),
        _long_text("uri"),
        _double("time", nullable=False),
        _integer("bytes"),
        _double("seconds_blocked", nullable=False),
        _double("seconds_total", nullable=False),
        _integer("epoch", nullable=True),
        _integer("number", nullable=True),
        _double("removed_at"),
        with_rowid=False,
    )
    _table(
        "attempts",
        ("run_uid", "number"),
        _text("run_uid", 64),
        _integer("number"),
        _integer("resource_version"),
        _time("start", nullable=True),
        _time("end", nullable=True),
        _integer("nodes"),
        _integer("incarnation", nullable=True),
        _text("generation", 32),
        _integer("start_step"),
        _integer("end_step", nullable=True),
        _text("cause", 64, nullable=True),
        _text("reason", 64),
        _text("node", 253),
        _integer("rank", nullable=True),
        _integer("exit_code", nullable=True),
        _long_text("message"),
        _integer("lost_steps"),
        with_rowid=False,
    )
    _table(
        "run_coordinators",
        ("pod_uid", "run_uid"),
        _text("pod_uid", 64),
        _text("run_uid", 64),
        _text("namespace", 63),
        _text("name", 253),
        _integer("epoch"),
        with_rowid=False,
    )
    _table(
        "run_references",
        ("run_uid", "field"),
        _text("run_uid", 64),
        _text("field", 63),
        _text("other_uid", 64),
        _text("other_name", 253),
        _integer("step", nullable=True),
        _long_text("uri"),
        _text("digest", 64, nullable=True),
        with_rowid=False,
    )
    op.create_index("ix_run_references_other", "run_references", ["other_uid"])
    _table(
        "given_up_telemetry",
        ("run_uid", "epoch"),
        _text("run_uid", 64),
        _integer("epoch"),
        _integer("refused"),
        _integer("overflowed"),
        with_rowid=False,
    )


def _create_metrics() -> None:
    _table(
        "metric_segments",
        ("id",),
        _identity("id"),
        _text("run_uid", 64),
        _integer("epoch"),
        _integer("number"),
        sa.Column("kept_every", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("thinned_to", sa.BigInteger(), nullable=False, server_default="0"),
        sa.UniqueConstraint("run_uid", "epoch", "number", name="uq_metric_segments_run_uid_epoch_number"),
    )
    _table(
        "metric_extents",
        ("segment_id", "first_step"),
        _integer("segment_id"),
        _integer("first_step"),
        _integer("last_step"),
        with_rowid=False,
    )
    _table(
        "metric_names",
        ("run_uid", "number"),
        _text("run_uid", 64),
        sa.Column("number", sa.SmallInteger(), nullable=False, autoincrement=False),
        _text("name", 63),
        sa.UniqueConstraint("run_uid", "name", name="uq_metric_names_run_uid_name"),
        with_rowid=False,
    )
    _table(
        "metric_rows",
        ("segment_id", "step"),
        _integer("segment_id"),
        _integer("step"),
        _integer("tokens"),
        _long_text("sample_digest"),
        *map(_double, ("time", "loss", "gradient_norm", "learning_rate", "tokens_per_second")),
        *map(_double, _STEP_DOUBLES),
        _integer("memory_bytes", nullable=True),
        _integer("checkpoints_left_out", nullable=True),
        sa.Column("further", sa.LargeBinary()),
        *map(_double, ("rollout_seconds", "scoring_seconds")),
        with_rowid=False,
    )


def _create_samples() -> None:
    _table(
        "step_samples",
        ("segment_id", "step", "place"),
        _integer("segment_id"),
        _integer("step"),
        sa.Column("place", sa.SmallInteger(), autoincrement=False, nullable=False),
        _integer("prompt"),
        _integer("sibling"),
        _long_text("prompt_text"),
        _long_text("answer_text"),
        _integer("tokens"),
        _text("end_reason", 16, nullable=True),
        _long_text("rewards"),
        _double("reward"),
        _double("advantage"),
        _integer("bytes"),
    )
    op.create_index("ix_step_samples_prompt", "step_samples", ["segment_id", "prompt", "step"])
    _partial_index("ix_step_samples_steps", "step_samples", ["segment_id", "step", "bytes"], _FIRST)


def _create_installation() -> None:
    _table(
        "namespaces",
        ("uid",),
        _text("uid", 64),
        _text("name", 63),
        _integer("resource_version"),
        _time("created_at"),
    )
    op.create_index("ix_namespaces_newest", "namespaces", ["name", "created_at", "resource_version"])
    _table(
        "installation",
        ("id",),
        _integer("id"),
        _text("cluster_uid", 64, nullable=True),
        _integer("newest_version"),
        _integer("timeline"),
    )
    op.execute("INSERT INTO installation (id, newest_version, timeline) VALUES (1, 0, 0)")
    _table(
        "run_exporter",
        ("id",),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _text("holder", 64),
        _time("expires"),
    )
    _table(
        "idempotency_keys",
        ("id",),
        _text("id", 64),
        _text("request", 64),
        _time("created_at"),
        sa.Column("answer", sa.Text()),
    )
    op.create_index("ix_idempotency_keys_age", "idempotency_keys", ["created_at"])


def _create_audit() -> None:
    _table(
        "audit_entries",
        ("id",),
        _identity("id"),
        _time("at"),
        _text("request_id", 64),
        _text("username", 512),
        _text("user_uid", 253),
        _json("groups"),
        _text("verb", 32),
        _text("resource", 253),
        _text("namespace", 63),
        _text("name", 253),
    )
    entry = "fk_audit_results_entry_id_audit_entries"
    _table(
        "audit_results",
        ("entry_id",),
        _integer("entry_id"),
        _time("at"),
        sa.Column("status", sa.Integer(), nullable=False),
        _text("message", 1024),
        _text("name", 253),
        _text("uid", 64),
        sa.ForeignKeyConstraint(["entry_id"], ["audit_entries.id"], name=entry),
    )
    op.create_index("ix_audit_entries_at", "audit_entries", ["at", "id"])
    for column in ("namespace", "username", "verb"):
        op.create_index(f"ix_audit_entries_{column}", "audit_entries", [column, "at", "id"])
    for table in _AUDIT_KEYS:
        op.create_index(f"ix_{table}_name", table, ["name"])


def _columns_of_usage() -> list[sa.Column]:
    return [
        _text("uid", 64),
        _integer("start"),
        sa.Column("end_known", sa.SmallInteger(), nullable=False),
        _integer("end_until"),
        _long_text("usage"),
    ]


def _create_usage() -> None:
    _table(
        "used_pods",
        ("uid",),
        *_columns_of_usage(),
        _text("owner_namespace", 63),
        _text("owner_name", 253),
        _text("owner_uid", 64),
        _text("node", 253),
    )
    op.create_index("ix_used_pods_owner", "used_pods", ["owner_uid", "start"])
    op.create_index("ix_used_pods_name", "used_pods", ["owner_namespace", "owner_name", "start"])
    op.create_index("ix_used_pods_node", "used_pods", ["node", "start", "end_known", "end_until"])
    op.create_index("ix_used_pods_end", "used_pods", ["end_known", "end_until"])
    _table(
        "used_nodes",
        ("uid",),
        *_columns_of_usage(),
        _text("profile", 253),
        _text("capacity", 32),
        _text("region", 253),
        _text("provider", 253),
    )
    op.create_index("ix_used_nodes_profile", "used_nodes", ["profile", "end_known"])


def _create_tariff() -> None:
    _table(
        "price_entries",
        ("name",),
        _text("name", 253),
        _text("uid", 64),
        _text("profile", 253),
        _text("capacity", 32),
        _text("provider", 63),
        _text("region", 63),
        _integer("nano_dollars"),
        _integer("effective_from"),
        _integer("effective_to", nullable=True),
        _integer("created_at"),
        _text("source", 253),
        _text("created_by", 253),
        _text("supersedes", 253),
    )
    op.create_index("ix_price_entries_profile", "price_entries", ["profile", "effective_from"])
    for table in ("carbon_series", "profiles"):
        _table(table, ("name",), _text("name", 253), _text("resource_version", 64), _json("spec"))


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _create_triggers_of_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '% {_APPEND_ONLY}', TG_TABLE_NAME; END $$"
    )
    op.execute(
        "CREATE FUNCTION prices_are_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'price_entries {_APPEND_ONLY}'; END $$"
    )
    guards = {table: "audit_is_append_only" for table in _AUDIT_KEYS}
    for table, function in (guards | {"price_entries": "prices_are_append_only"}).items():
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
    op.execute(
        "CREATE FUNCTION delete_samples_of_segment() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM step_samples WHERE segment_id = OLD.id; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER metric_segments_samples AFTER DELETE ON metric_segments FOR EACH ROW"
        " EXECUTE FUNCTION delete_samples_of_segment()"
    )


def _create_triggers_of_sqlite() -> None:
    for table, key in (_AUDIT_KEYS | {"price_entries": "name"}).items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} {_APPEND_ONLY}'); END"
        for change in ("UPDATE", "DELETE"):
            op.execute(f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} {refuse}")
        # INSERT OR REPLACE deletes the row that it replaces, and triggers do not run for that.
        known = f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"
        op.execute(f"CREATE TRIGGER {table}_no_replacement BEFORE INSERT ON {table} WHEN {known} {refuse}")
    op.execute(
        "CREATE TRIGGER metric_segments_samples AFTER DELETE ON metric_segments FOR EACH ROW"
        " BEGIN DELETE FROM step_samples WHERE segment_id = OLD.id; END"
    )


_TABLES = (
    "used_nodes",
    "used_pods",
    "price_entries",
    "carbon_series",
    "profiles",
    "audit_results",
    "audit_entries",
    "idempotency_keys",
    "run_exporter",
    "installation",
    "namespaces",
    "step_samples",
    "metric_rows",
    "metric_names",
    "metric_extents",
    "metric_segments",
    "given_up_telemetry",
    "run_references",
    "run_coordinators",
    "attempts",
    "checkpoints",
    "run_labels",
    "run_specs",
    "runs",
)
_FUNCTIONS = ("audit_is_append_only", "prices_are_append_only", "delete_samples_of_segment")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
    for function in _FUNCTIONS if _is_postgresql() else ():
        op.execute(f"DROP FUNCTION {function}()")
