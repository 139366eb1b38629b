"""Adds and reads rows of the audit; nothing here changes or deletes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, insert, select, tuple_, union

from footplate_api.audit.pagination import Place
from footplate_api.audit.schemas import AuditQuery
from footplate_api.database import ReadSession, WriteSession
from footplate_api.models.audit import AuditEntry, AuditResult


async def add_entry(session: WriteSession, row: Mapping[str, Any]) -> int:
    """Notes what is asked for; returns the entry's id."""
    statement = insert(AuditEntry).values(**row).returning(AuditEntry.id)
    return (await session.execute(statement)).scalar_one()


async def add_result(session: WriteSession, row: Mapping[str, Any]) -> None:
    """Notes what came of it."""
    await session.execute(insert(AuditResult).values(**row))


async def page(
    session: ReadSession, query: AuditQuery, after: Place | None
) -> Sequence[Row[AuditEntry, AuditResult]]:
    """Entries with their results after a place, newest first: one more than the limit if there are."""
    return (await session.execute(statement(query, after))).all()


def statement(query: AuditQuery, after: Place | None) -> Select[AuditEntry, AuditResult]:
    """What page() asks."""
    asked = (
        select(AuditEntry, AuditResult)
        .outerjoin(AuditResult, AuditResult.entry_id == AuditEntry.id)
        .where(*_filters(query))
        .order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
        .limit(query.limit + 1)
    )
    if after is not None:
        asked = asked.where(tuple_(AuditEntry.at, AuditEntry.id) < (after.at, after.id))
    return asked


def _filters(query: AuditQuery) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if query.namespace is not None:
        wanted.append(AuditEntry.namespace == query.namespace)
    if query.name is not None:
        wanted.append(_named(query.name))
    if query.username is not None:
        wanted.append(AuditEntry.username == query.username)
    if query.verb is not None:
        wanted.append(AuditEntry.verb == query.verb)
    if query.since is not None:
        wanted.append(AuditEntry.at >= query.since)
    if query.until is not None:
        wanted.append(AuditEntry.at < query.until)
    return wanted


def _named(name: str) -> ColumnElement[bool]:
    """Asked for by this name, or given it by Kubernetes; those of one name are few."""
    asked = select(AuditEntry.id).where(AuditEntry.name == name)
    given = select(AuditResult.entry_id).where(AuditResult.name == name)
    return AuditEntry.id.in_(union(asked, given))
