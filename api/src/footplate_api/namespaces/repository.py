"""Queries on namespaces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, select, update
from sqlalchemy.orm import InstrumentedAttribute

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.base import upsert
from footplate_api.models.installation import Namespace
from footplate_api.models.run import RunRow
from footplate_api.namespaces.lifetimes import NamespaceLifetime


def in_current_namespace(name: str | None) -> ColumnElement[bool]:
    """Return the condition that the queried run is of the youngest namespace of its name, which is `name`."""
    return RunRow.namespace_uid.is_not_distinct_from(current_uid(RunRow.namespace if name is None else name))


def current_uid(name: str | ColumnElement[str] | InstrumentedAttribute[str]) -> ScalarSelect[str]:
    """Return a subquery of the uid of the youngest namespace of this name, NULL if none was seen."""
    youngest = (Namespace.created_at.desc(), Namespace.resource_version.desc())
    return select(Namespace.uid).where(Namespace.name == name).order_by(*youngest).limit(1).scalar_subquery()


async def existing_uids(session: ReadSession, uids: Collection[str]) -> set[str]:
    """Return the `uids` that the table has."""
    return set(await session.scalars(select(Namespace.uid).where(Namespace.uid.in_(uids))))


async def list_lifetimes(
    session: ReadSession, names: Collection[str]
) -> Mapping[str, Sequence[NamespaceLifetime]]:
    """Return all namespaces of each name, from the oldest to the youngest."""
    statement = select(Namespace.name, Namespace.uid, Namespace.created_at).where(Namespace.name.in_(names))
    found: dict[str, list[NamespaceLifetime]] = defaultdict(list)
    for row in await session.execute(statement.order_by(Namespace.created_at, Namespace.resource_version)):
        found[row.name].append(NamespaceLifetime(row.uid, row.created_at))
    return found


async def store_namespaces(session: WriteSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store namespaces, and assign all runs of their names to the ones that they belong to."""
    if not rows:
        return
    first_stands = upsert(session, Namespace, lambda new: new.resource_version < Namespace.resource_version)
    await session.execute(first_stands, [dict(row) for row in rows])
    for name, known in (await list_lifetimes(session, {row["name"] for row in rows})).items():
        await _share_out(session, name, known)


async def _share_out(session: WriteSession, name: str, known: Sequence[NamespaceLifetime]) -> None:
    for generation, following in pairwise([*known, None]):
        assert generation is not None
        statement = update(RunRow).where(
            RunRow.namespace == name,
            RunRow.created_at >= generation.created_at,
            RunRow.namespace_uid.is_distinct_from(generation.uid),
        )
        if following is not None:
            statement = statement.where(RunRow.created_at < following.created_at)
        await session.execute(statement.values(namespace_uid=generation.uid))
