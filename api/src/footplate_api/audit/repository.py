"""Inserts and reads rows of the audit log; nothing here updates or deletes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, insert, select, tuple_, union

from footplate_api.audit.pagination import AuditPosition
from footplate_api.audit.schemas import AuditQuery
from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.audit import AuditEntry, AuditResult


async def add_entry(session: WriteSession, row: Mapping[str, Any]) -> int:
    """Insert a requested write; return the entry's id."""
    statement = insert(AuditEntry).values(**row).returning(AuditEntry.id)
    return (await session.execute(statement)).scalar_one()


async def add_result(session: WriteSession, row: Mapping[str, Any]) -> None:
    """Insert the result of a write."""
    await session.execute(insert(AuditResult).values(**row))


async def page(
    session: ReadSession, query: AuditQuery, after: AuditPosition | None
) -> Sequence[Row[AuditEntry, AuditResult]]:
    """Return entries and results after a position, newest first: up to one more than the limit."""
    return (await session.execute(statement(query, after))).all()


def statement(query: AuditQuery, after: AuditPosition | None) -> Select[AuditEntry, AuditResult]:
    """Return the SELECT of page()."""
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
    """Return a filter for objects requested by this name, or named so by Kubernetes; few share a name."""
    asked = select(AuditEntry.id).where(AuditEntry.name == name)
    given = select(AuditResult.entry_id).where(AuditResult.name == name)
    return AuditEntry.id.in_(union(asked, given))
