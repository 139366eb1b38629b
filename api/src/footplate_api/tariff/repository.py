"""Queries on prices, carbon intensities and profiles, none of which changes or deletes a price."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select, true

from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.base import table_of, upsert
from footplate_api.models.tariff import CarbonSeries, ComputeProfileRow, PriceEntryRow

Shown = type[CarbonSeries] | type[ComputeProfileRow]
"""What is as Kubernetes shows it: it changes, and goes."""


async def add_prices(session: WriteSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add entries to the book; skip those whose names it has already."""
    names = [row["name"] for row in rows]
    known = set(await session.scalars(select(PriceEntryRow.name).where(PriceEntryRow.name.in_(names))))
    new = sorted((row for row in rows if row["name"] not in known), key=lambda row: str(row["name"]))
    if new:
        table = table_of(PriceEntryRow)
        await insert_missing(session, table, tuple(new[0]), [tuple(row.values()) for row in new])


async def book(session: ReadSession, profile: str | None = None) -> Sequence[Any]:
    """Return all entries, or those of a profile, in the order in which they begin."""
    statement = select(table_of(PriceEntryRow)).order_by(PriceEntryRow.effective_from, PriceEntryRow.name)
    if profile is not None:
        statement = statement.where(PriceEntryRow.profile == profile)
    return (await session.execute(statement)).all()


async def store_objects(session: WriteSession, model: Shown, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert or replace the rows of existing objects."""
    made = sorted((dict(row) for row in rows), key=lambda row: str(row["name"]))
    await session.execute(upsert(session, model, lambda new: true()), made)


async def delete_objects(session: WriteSession, model: Shown, names: Collection[str]) -> None:
    """Delete the rows of deleted objects."""
    await session.execute(delete(model).where(model.name.in_(names)))


async def versions(session: ReadSession, model: Shown) -> Mapping[str, str]:
    """Return name -> version of all stored objects."""
    return {row[0]: row[1] for row in await session.execute(select(model.name, model.resource_version))}


async def specs(
    session: ReadSession, model: Shown, names: Collection[str] | None = None
) -> Mapping[str, Any]:
    """Return name -> spec of all objects, or of those named, sorted by name."""
    statement = select(model.name, model.spec).order_by(model.name)
    if names is not None:
        statement = statement.where(model.name.in_(names))
    return {row[0]: row[1] for row in await session.execute(statement)}
