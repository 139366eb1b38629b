"""Queries on the labels of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, false, func, select
from sqlalchemy.orm import aliased

from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.labels.run_labels import derive_labels
from footplate_api.labels.selector import Operator, Requirement
from footplate_api.models.base import table_of
from footplate_api.models.run import RunLabel, RunRow

FEW: Final = 1000  # runs: so many are sooner fetched by their uids and sorted
_COLUMNS: Final = ("key", "value", "run_uid")


async def store_labels(session: WriteSession, asked: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the labels of these runs; `asked` maps uids to labels, annotations and spec.

    The caller has locked the runs.
    """
    if not asked:
        return
    await session.execute(delete(RunLabel).where(RunLabel.run_uid.in_(asked)))
    rows = [(key, value, uid) for uid, run in asked.items() for key, value in derive_labels(run).items()]
    await insert_missing(session, table_of(RunLabel), _COLUMNS, rows)


def matches(requirement: Requirement) -> ColumnElement[bool]:
    """Return the condition that the queried run meets `requirement`: a look-up in the index of its labels.

    It compares the label's value, and does not search for a row that meets the requirement: PostgreSQL would
    make a join of that, of all runs that do with the page.
    """
    value = select(RunLabel.value).where(RunLabel.run_uid == RunRow.uid, RunLabel.key == requirement.key)
    found = value.scalar_subquery()
    match requirement.operator:
        case Operator.IN:
            return found.in_(requirement.values)
        case Operator.NOT_IN:
            return ~func.coalesce(found.in_(requirement.values), false())
        case Operator.EXISTS:
            return found.is_not(None)
        case Operator.DOES_NOT_EXIST:
            return found.is_(None)


async def find_few(
    session: ReadSession, requirements: Sequence[Requirement], most: int
) -> Sequence[str] | None:
    """Return the runs that meet all requirements; None if they exceed `most` or none of these is positive."""
    first = next((asked for asked in requirements if asked.requires_key), None)
    if first is None:
        return None
    statement = select(RunLabel.run_uid).where(_says(RunLabel, first))
    for other in requirements:
        if other is not first:
            statement = statement.where(_beside(other))
    found = (await session.scalars(statement.limit(most + 1))).all()
    return found if len(found) <= most else None


def _beside(requirement: Requirement) -> ColumnElement[bool]:
    """Return the condition that a label's run meets another requirement."""
    other = aliased(RunLabel)
    asked = select(other.key).where(other.run_uid == RunLabel.run_uid)
    found = asked.where(_says(other, requirement)).exists()
    return found if requirement.requires_key else ~found


def _says(label: type[RunLabel], requirement: Requirement) -> ColumnElement[bool]:
    """Return the condition that a row has the requirement's key and, if it has values, one of these."""
    of_this_key = label.key == requirement.key
    return and_(of_this_key, label.value.in_(requirement.values)) if requirement.values else of_this_key
