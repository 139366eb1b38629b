"""SQL queries of run lists.

Each page walks an index in the order of the list until it is full; the index also has the columns of the
filters, so runs that do not match are not read. Where few runs have the required labels, the query looks up
these runs instead, and sorts them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_

from footplate_api.db.database import ReadSession
from footplate_api.labels import repository as labels
from footplate_api.labels import selector
from footplate_api.labels.run_labels import RunProperty
from footplate_api.labels.selector import Operator, Requirement
from footplate_api.models.base import distinct_values
from footplate_api.models.run import RunRow
from footplate_api.namespaces import repository as namespaces
from footplate_api.runs.schemas import RunQuery, RunSummary
from footplate_api.runs.sort_order import CursorPosition, ListSegment, Order, order, split_list

_SUMMARY: Final = [getattr(RunRow, name) for name in RunSummary.model_fields]


@dataclass(frozen=True)
class NamespaceFilter:
    """Namespace whose runs to list; else several, or all if there is no limit."""

    namespace: str | None = None
    among: Collection[str] | None = None


async def page(
    session: ReadSession,
    within: NamespaceFilter,
    query: RunQuery,
    after: CursorPosition | None,
    few: int = labels.FEW,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return summaries after a position: one more than the limit if there are more.

    Up to `few` runs with the required labels are faster to look up than to find on a walk.
    """
    found: list[Row[*tuple[Any, ...]]] = []
    for statement in await statements(session, within, query, after, few):
        missing = query.limit + 1 - len(found)
        if missing:
            found += (await session.execute(statement.limit(missing))).all()
    return found


async def statements(
    session: ReadSession,
    within: NamespaceFilter,
    query: RunQuery,
    after: CursorPosition | None,
    few: int = labels.FEW,
) -> Sequence[Select[Any]]:
    """Return the statements that page() executes, one after the other, until it has enough."""
    required = [*requirements(query)]
    found = await labels.find_few(session, required, few)
    asked = select(*_SUMMARY).where(*_conditions(within, query))
    given = order(query.sort)
    if found is not None:
        asked = asked.where(RunRow.uid.in_(found))
    else:
        asked = asked.where(*map(labels.matches, required))
        scope = "all" if within.namespace is None else "own"
        asked = await _walking(session, asked, f"ix_runs_{scope}_{given.index}")
    return [_leg(asked, given, query.sort.descending, leg) for leg in split_list(query.sort, after)]


async def _walking(session: ReadSession, asked: Select[Any], index: str) -> Select[Any]:
    """Return `asked` in the order of an index, whatever a planner without statistics of labels prefers.

    It would fetch and sort all runs, for a page that the first few hundred fill.
    """
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(select(func.set_config("enable_sort", "off", True)))  # to the transaction's end
    return asked.with_hint(RunRow, f"INDEXED BY {index}", "sqlite")


def _leg(asked: Select[Any], given: Order, descending: bool, leg: ListSegment) -> Select[Any]:
    columns = [getattr(RunRow, name) for name in given.columns]
    asked = asked.order_by(*(column.desc() if descending else column for column in columns))
    values = () if leg.after is None else leg.after.values
    if leg.ended is not None:
        asked = asked.where(RunRow.ended_at.is_not(None) if leg.ended else RunRow.ended_at.is_(None))
    if leg.ended is False:  # of which all have the same end: the other columns decide
        columns, values = columns[1:], values[1:]
    if leg.after is None:
        return asked
    here = tuple_(*columns)
    return asked.where(here < tuple(values) if descending else here > tuple(values))


async def namespaces_with_runs(session: ReadSession) -> Sequence[str]:
    """Return all namespaces that ever had a run, in order."""
    return (await session.scalars(distinct_values(RunRow.namespace))).all()


def _conditions(within: NamespaceFilter, query: RunQuery) -> Iterator[ColumnElement[bool]]:
    if within.namespace is not None:
        yield RunRow.namespace == within.namespace
    elif within.among is not None:
        yield RunRow.namespace.in_(sorted(within.among))
    if query.phase is not None:
        yield RunRow.phase == query.phase.value
    if query.stage is not None:
        yield RunRow.stage == query.stage.value
    if not query.include_deleted:
        yield RunRow.deleted_at.is_(None)
    for column, begin, end in (
        (RunRow.created_at, query.created_from, query.created_to),
        (RunRow.ended_at, query.ended_from, query.ended_to),
    ):
        if begin is not None:
            yield column >= begin
        if end is not None:
            yield column < end
    if not query.former_namespaces:
        yield namespaces.in_current_namespace(within.namespace)


def requirements(query: RunQuery) -> Iterator[Requirement]:
    """Yield the query's requirements on labels, and on properties that are stored as labels."""
    for name, value in (
        (RunProperty.PROFILE, query.profile),
        (RunProperty.QUEUE, query.queue),
        (RunProperty.REQUESTED_BY, query.requested_by),
    ):
        if value is not None:
            yield Requirement(name.value, Operator.IN, (value,))
    if query.label_selector is not None:
        yield from selector.parse_selector(query.label_selector)
