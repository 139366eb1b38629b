"""Queries on references from runs to runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, and_, func, literal, select, union_all
from sqlalchemy.orm import aliased

from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.base import table_of
from footplate_api.models.run import RunManifest, RunReferenceRow, RunRow

UP: Final = "up"
DOWN: Final = "down"

_TABLE: Final = table_of(RunReferenceRow)
_COLUMNS: Final = tuple(column.name for column in _TABLE.columns)


async def store_references(session: WriteSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert missing references; existing ones never change, as a reference is resolved once."""
    values = sorted(tuple(row[name] for name in _COLUMNS) for row in rows)
    await insert_missing(session, _TABLE, _COLUMNS, values)


async def find_references(
    session: ReadSession, namespace: str, uid: str, depth: int, most: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return (direction, depth, RunReference's columns, the referring run, the referenced run): one query.

    At most `most` rows in each direction, upwards first and the nearest first, of runs of this namespace.
    Each run is (name, stage, phase, deleted_at, data, read), all NULL if the mirror never saw it: `data` is
    the spec's section, `read` is the data that ranks reported. No path is followed for more than `depth`
    references, so that rows that form a cycle, which should not exist, end too.
    """
    edges = union_all(
        _directed(UP, uid, namespace, depth, most),
        _directed(DOWN, uid, namespace, depth, most),
    ).subquery()
    by, of = aliased(RunRow), aliased(RunRow)
    by_spec, of_spec = aliased(RunManifest), aliased(RunManifest)
    statement = (
        select(
            edges,
            *_about(by, by_spec, "by"),
            *_about(of, of_spec, "of"),
        )
        .join(by, by.uid == edges.c.run_uid)
        .outerjoin(by_spec, by_spec.uid == by.uid)
        .outerjoin(of, and_(of.uid == edges.c.other_uid, of.namespace == namespace))
        .outerjoin(of_spec, of_spec.uid == of.uid)
        .order_by(edges.c.direction.desc(), edges.c.depth, edges.c.run_uid, edges.c.field)
    )
    return (await session.execute(statement)).all()


def _about(run: Any, spec: Any, prefix: str) -> list[Any]:
    told = [run.name, run.stage, run.phase, run.deleted_at]
    data = spec.spec["data"].label(f"{prefix}_data")
    read = run.status["data"].label(f"{prefix}_read")
    return [*(column.label(f"{prefix}_{column.key}") for column in told), data, read]


def _directed(direction: str, uid: str, namespace: str, depth: int, most: int) -> Any:
    """Return the references from `uid` up to its ancestors, or down to its descendants."""
    known, run = RunReferenceRow, aliased(RunRow)
    upwards = direction == UP
    begin = known.run_uid if upwards else known.other_uid
    columns = [getattr(known, name) for name in _COLUMNS]
    mine = and_(run.uid == known.run_uid, run.namespace == namespace)
    first = select(literal(1).label("depth"), *columns).join(run, mine).where(begin == uid)
    ways = first.cte(f"ways_{direction}", recursive=True)
    end = ways.c.other_uid if upwards else ways.c.run_uid
    # UNION, and not UNION ALL: of two ways of one length to a reference one is enough.
    further = (
        select(ways.c.depth + 1, *columns)
        .select_from(ways)
        .join(known, begin == end)
        .join(run, mine)
        .where(ways.c.depth < depth)
    )
    ways = ways.union(further)
    reference = [ways.c[name] for name in _COLUMNS]
    shortest = func.min(ways.c.depth).label("depth")
    nearest = select(literal(direction).label("direction"), shortest, *reference).group_by(*reference)
    return select(nearest.order_by(shortest).limit(most).subquery(f"nearest_{direction}"))
