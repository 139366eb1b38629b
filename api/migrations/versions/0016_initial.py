"""Initial schema of release 0.1.0; revisions 0001 to 0015 were development versions."""

from collections.abc import Iterable, Sequence

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

_RUN_ORDERS = {"creation": ("created_at",), "name": ("name", "created_at"), "end": ("ended_at", "created_at")}
_RUN_SCOPES = {"own": ("namespace",), "all": ()}
_RUN_FILTERS = ("namespace", "created_at", "ended_at", "deleted_at", "phase", "stage", "namespace_uid")


def _columns(names: Iterable[str], kind: sa.types.TypeEngine, nullable: bool = False) -> list[sa.Column]:
    return [sa.Column(name, kind, nullable=nullable, autoincrement=False) for name in names]


def _texts(nullable: bool = False, **lengths: int) -> list[sa.Column]:
    """Return columns of texts by the most characters of each."""
    return [sa.Column(name, sa.String(length), nullable=nullable) for name, length in lengths.items()]


def _long_texts(*names: str) -> list[sa.Column]:
    return _columns(names, sa.Text())


def _integers(*names: str, nullable: bool = False) -> list[sa.Column]:
    return _columns(names, sa.BigInteger(), nullable)


def _doubles(*names: str, nullable: bool = True) -> list[sa.Column]:
    return _columns(names, sa.Double(), nullable)


def _times(*names: str, nullable: bool = False) -> list[sa.Column]:
    return _columns(names, sa.DateTime(timezone=True), nullable)


def _json(*names: str) -> list[sa.Column]:
    return _columns(names, sa.JSON())


def _identity(name: str) -> sa.Column:
    return sa.Column(name, _IDENTITY, nullable=False, autoincrement=True)


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
        ["uid"],
        *_texts(uid=64, namespace=63, name=253),
        *_texts(stage=32, phase=32, nullable=True),
        *_integers("step", "total_steps", "tokens"),
        *_doubles("loss"),
        *_integers("generation", "resource_version"),
        *_times("created_at"),
        *_times("deleted_at", nullable=True),
        *_times("seen_at"),
        *_times("ended_at", nullable=True),
        sa.Column("end_estimated", sa.Boolean()),
        *_texts(namespace_uid=64, nullable=True),
        *_json("status"),
    )
    for scope, where in _RUN_SCOPES.items():
        for name, order in _RUN_ORDERS.items():
            filters = (column for column in _RUN_FILTERS if column not in where + order)
            op.create_index(f"ix_runs_{scope}_by_{name}", "runs", [*where, *order, "uid", *filters])
    _partial_index("ix_runs_live_newest", "runs", ["namespace", "created_at", "uid"], _LIVE)
    _partial_index("ix_runs_live_phase", "runs", ["phase", "seen_at"], _LIVE)
    _table("run_specs", ["uid"], *_texts(uid=64, digest=64), *_json("labels", "annotations", "spec"))
    label = _texts(key=317, value=253, run_uid=64)
    _table("run_labels", ["key", "value", "run_uid"], *label, with_rowid=False)
    op.create_index("ix_run_labels_run", "run_labels", ["run_uid", "key"], unique=True)


def _create_run_details() -> None:
    _table(
        "checkpoints",
        ["run_uid", "step"],
        *_texts(run_uid=64),
        *_integers("step"),
        *_long_texts("uri"),
        *_doubles("time", nullable=False),
        *_integers("bytes"),
        *_doubles("seconds_blocked", "seconds_total", nullable=False),
        *_integers("epoch", "number", nullable=True),
        *_doubles("removed_at"),
        with_rowid=False,
    )
    _table(
        "attempts",
        ["run_uid", "number"],
        *_texts(run_uid=64),
        *_integers("number", "resource_version"),
        *_times("start", "end", nullable=True),
        *_integers("nodes"),
        *_integers("incarnation", nullable=True),
        *_texts(generation=32),
        *_integers("start_step"),
        *_integers("end_step", nullable=True),
        *_texts(cause=64, nullable=True),
        *_texts(reason=64, node=253),
        *_integers("rank", "exit_code", nullable=True),
        *_long_texts("message"),
        *_integers("lost_steps"),
        with_rowid=False,
    )
    _table(
        "run_coordinators",
        ["pod_uid", "run_uid"],
        *_texts(pod_uid=64, run_uid=64, namespace=63, name=253),
        *_integers("epoch"),
        with_rowid=False,
    )
    _table(
        "run_references",
        ["run_uid", "field"],
        *_texts(run_uid=64, field=63, other_uid=64, other_name=253),
        *_integers("step", nullable=True),
        *_long_texts("uri"),
        *_texts(digest=64, nullable=True),
        with_rowid=False,
    )
    op.create_index("ix_run_references_other", "run_references", ["other_uid"])
    _table(
        "given_up_telemetry",
        ["run_uid", "epoch"],
        *_texts(run_uid=64),
        *_integers("epoch", "refused", "overflowed"),
        with_rowid=False,
    )


def _create_metrics() -> None:
    _table(
        "metric_segments",
        ["id"],
        _identity("id"),
        *_texts(run_uid=64),
        *_integers("epoch", "number"),
        sa.Column("kept_every", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("thinned_to", sa.BigInteger(), nullable=False, server_default="0"),
        sa.UniqueConstraint("run_uid", "epoch", "number", name="uq_metric_segments_run_uid_epoch_number"),
    )
    extent = _integers("segment_id", "first_step", "last_step")
    _table("metric_extents", ["segment_id", "first_step"], *extent, with_rowid=False)
    _table(
        "metric_names",
        ["run_uid", "number"],
        *_texts(run_uid=64),
        *_columns(["number"], sa.SmallInteger()),
        *_texts(name=63),
        sa.UniqueConstraint("run_uid", "name", name="uq_metric_names_run_uid_name"),
        with_rowid=False,
    )
    _table(
        "metric_rows",
        ["segment_id", "step"],
        *_integers("segment_id", "step", "tokens"),
        *_long_texts("sample_digest"),
        *_doubles("time", "loss", "gradient_norm", "learning_rate", "tokens_per_second"),
        *_doubles("step_seconds", "data_seconds", "compute_seconds", "communication_seconds"),
        *_doubles("optimizer_seconds", "checkpoint_seconds", "validation_seconds"),
        *_doubles("mfu", "mfu_causal", "validation_loss"),
        *_integers("memory_bytes", "checkpoints_left_out", nullable=True),
        sa.Column("further", sa.LargeBinary()),
        *_doubles("rollout_seconds", "scoring_seconds"),
        with_rowid=False,
    )


def _create_samples() -> None:
    _table(
        "step_samples",
        ["segment_id", "step", "place"],
        *_integers("segment_id", "step"),
        *_columns(["place"], sa.SmallInteger()),
        *_integers("prompt", "sibling"),
        *_long_texts("prompt_text", "answer_text"),
        *_integers("tokens"),
        *_texts(end_reason=16, nullable=True),
        *_long_texts("rewards"),
        *_doubles("reward", "advantage"),
        *_integers("bytes"),
    )
    op.create_index("ix_step_samples_prompt", "step_samples", ["segment_id", "prompt", "step"])
    _partial_index("ix_step_samples_steps", "step_samples", ["segment_id", "step", "bytes"], _FIRST)


def _create_installation() -> None:
    namespace = (*_texts(uid=64, name=63), *_integers("resource_version"), *_times("created_at"))
    _table("namespaces", ["uid"], *namespace)
    op.create_index("ix_namespaces_newest", "namespaces", ["name", "created_at", "resource_version"])
    _table(
        "installation",
        ["id"],
        *_integers("id"),
        *_texts(cluster_uid=64, nullable=True),
        *_integers("newest_version", "timeline"),
    )
    op.execute("INSERT INTO installation (id, newest_version, timeline) VALUES (1, 0, 0)")
    lease = (*_columns(["id"], sa.Integer()), *_texts(holder=64), *_times("expires"))
    _table("run_exporter", ["id"], *lease)
    key = (*_texts(id=64, request=64), *_times("created_at"), sa.Column("answer", sa.Text()))
    _table("idempotency_keys", ["id"], *key)
    op.create_index("ix_idempotency_keys_age", "idempotency_keys", ["created_at"])


def _create_audit() -> None:
    _table(
        "audit_entries",
        ["id"],
        _identity("id"),
        *_times("at"),
        *_texts(request_id=64, username=512, user_uid=253),
        *_json("groups"),
        *_texts(verb=32, resource=253, namespace=63, name=253),
    )
    entry = "fk_audit_results_entry_id_audit_entries"
    _table(
        "audit_results",
        ["entry_id"],
        *_integers("entry_id"),
        *_times("at"),
        *_columns(["status"], sa.Integer()),
        *_texts(message=1024, name=253, uid=64),
        sa.ForeignKeyConstraint(["entry_id"], ["audit_entries.id"], name=entry),
    )
    op.create_index("ix_audit_entries_at", "audit_entries", ["at", "id"])
    for column in ("namespace", "username", "verb"):
        op.create_index(f"ix_audit_entries_{column}", "audit_entries", [column, "at", "id"])
    for table in _AUDIT_KEYS:
        op.create_index(f"ix_{table}_name", table, ["name"])


def _columns_of_usage() -> list[sa.Column]:
    return [
        *_texts(uid=64),
        *_integers("start"),
        *_columns(["end_known"], sa.SmallInteger()),
        *_integers("end_until"),
        *_long_texts("usage"),
    ]


def _create_usage() -> None:
    pod = _texts(owner_namespace=63, owner_name=253, owner_uid=64, node=253)
    _table("used_pods", ["uid"], *_columns_of_usage(), *pod)
    op.create_index("ix_used_pods_owner", "used_pods", ["owner_uid", "start"])
    op.create_index("ix_used_pods_name", "used_pods", ["owner_namespace", "owner_name", "start"])
    op.create_index("ix_used_pods_node", "used_pods", ["node", "start", "end_known", "end_until"])
    op.create_index("ix_used_pods_end", "used_pods", ["end_known", "end_until"])
    node = _texts(profile=253, capacity=32, region=253, provider=253)
    _table("used_nodes", ["uid"], *_columns_of_usage(), *node)
    op.create_index("ix_used_nodes_profile", "used_nodes", ["profile", "end_known"])


def _create_tariff() -> None:
    _table(
        "price_entries",
        ["name"],
        *_texts(name=253, uid=64, profile=253, capacity=32, provider=63, region=63),
        *_integers("nano_dollars", "effective_from"),
        *_integers("effective_to", nullable=True),
        *_integers("created_at"),
        *_texts(source=253, created_by=253, supersedes=253),
    )
    op.create_index("ix_price_entries_profile", "price_entries", ["profile", "effective_from"])
    for table in ("carbon_series", "profiles"):
        _table(table, ["name"], *_texts(name=253, resource_version=64), *_json("spec"))


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


_FUNCTIONS = ("audit_is_append_only", "prices_are_append_only", "delete_samples_of_segment")


def downgrade() -> None:
    schema = sa.MetaData()
    schema.reflect(op.get_bind(), only=lambda table, _: table != "alembic_version")
    schema.drop_all(op.get_bind())
    for function in _FUNCTIONS if _is_postgresql() else ():
        op.execute(f"DROP FUNCTION {function}()")
