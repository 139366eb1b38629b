"""Queries on the table of runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, or_, select, tuple_, update

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.labels import repository as labels
from footplate_api.models.base import batches, upsert
from footplate_api.models.run import RunManifest, RunRow
from footplate_api.namespaces import repository as namespaces
from footplate_api.namespaces.lifetimes import owner_uid
from footplate_api.registry.end_time import RunEnd

_LIVE_A_QUERY: Final = 5000
_ASKED: Final = ("labels", "annotations", "spec")


async def find_estimated_ends(session: ReadSession, uids: Iterable[str]) -> frozenset[str]:
    """Return those of `uids` whose end is only estimated, so that later evidence moves it."""
    statement = select(RunRow.uid).where(RunRow.uid.in_(list(uids)), RunRow.end_estimated.is_(True))
    return frozenset(await session.scalars(statement))


@dataclass(frozen=True)
class StoredRunState:
    """Stored state of a run, as far as it decides whether a list has news."""

    resource_version: int
    deleted: bool


async def get_stored_states(session: ReadSession, uids: Collection[str]) -> dict[str, StoredRunState]:
    """Return the stored states of those of `uids` that the table has."""
    deleted = RunRow.deleted_at.is_not(None)  # times of thousands of runs would take long to read
    statement = select(RunRow.uid, RunRow.resource_version, deleted)
    rows = await session.execute(statement.where(RunRow.uid.in_(uids)))
    return {uid: StoredRunState(version, bool(gone)) for uid, version, gone in rows}


async def store_runs(
    session: WriteSession, rows: Sequence[Mapping[str, Any]], listed: int | None = None
) -> Sequence[Mapping[str, Any]]:
    """Insert or update runs, one row each; return the rows with their namespaces' uids.

    An event or a creation replaces an older version, and a deletion replaces what was only found missing. A
    list of version `listed` shows the state at that version: it replaces every other state of that time, and
    nothing newer. mirror.runs explains why.
    """

    def renews(new: Any) -> ColumnElement[bool]:
        later: ColumnElement[bool] = new.resource_version > RunRow.resource_version
        if listed is None:
            guessed = and_(RunRow.deleted_at.is_not(None), RunRow.end_estimated.is_(True))
            return or_(later, and_(guessed, new.deleted_at.is_not(None)))
        differs = or_(RunRow.resource_version != new.resource_version, RunRow.deleted_at.is_not(None))
        return and_(RunRow.resource_version <= listed, differs)

    statement = upsert(session, RunRow, renews)
    # In one order, so that two mirrors that write the same runs never wait for each other in a ring.
    owned = await _owned(session, rows)
    for bite in batches(sorted(owned, key=lambda row: str(row["uid"]))):
        renewed = await session.scalars(statement.returning(RunRow.uid), [_without_spec(row) for row in bite])
        await _store_specs(session, {row["uid"]: row for row in bite}, renewed.all())
    return owned


def _without_spec(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("digest", *_ASKED)}


async def _store_specs(
    session: WriteSession, rows: Mapping[str, Mapping[str, Any]], uids: Sequence[str]
) -> None:
    """Store the changed specs of these runs, whose rows are locked already."""
    digests = select(RunManifest.uid, RunManifest.digest).where(RunManifest.uid.in_(uids))
    known = {row.uid: row.digest for row in await session.execute(digests)}
    changed = [
        {name: rows[uid][name] for name in ("uid", "digest", *_ASKED)}
        for uid in uids
        if known.get(uid) != rows[uid]["digest"]
    ]
    if changed:
        await session.execute(
            upsert(session, RunManifest, lambda new: new.digest != RunManifest.digest), changed
        )
        await labels.store_labels(session, {row["uid"]: row for row in changed})


async def spec_of(session: ReadSession, uid: str) -> RunManifest:
    """Return the spec, labels and annotations of a run that is stored."""
    return await session.get_one(RunManifest, uid)


async def _owned(session: ReadSession, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    known = await namespaces.list_lifetimes(session, {row["namespace"] for row in rows})
    return [
        {**row, "namespace_uid": owner_uid(known.get(row["namespace"], ()), row["created_at"])}
        for row in rows
    ]


class LiveRunKey(NamedTuple):
    """Sort key by which live runs are read."""

    namespace: str
    created_at: datetime
    uid: str


async def live(
    session: ReadSession, up_to: int, after: LiveRunKey | None, namespace: str = ""
) -> Sequence[LiveRunKey]:
    """Return some of the runs that are not deleted, in versions up to `up_to`; none at the end.

    Args:
        namespace: of this one alone; empty: of all.
    """
    statement = (
        select(RunRow.namespace, RunRow.created_at, RunRow.uid)
        .where(RunRow.deleted_at.is_(None), RunRow.resource_version <= up_to)
        .order_by(RunRow.namespace, RunRow.created_at, RunRow.uid)
        .limit(_LIVE_A_QUERY)
    )
    if namespace:
        statement = statement.where(RunRow.namespace == namespace)
    if after is not None:
        statement = statement.where(tuple_(RunRow.namespace, RunRow.created_at, RunRow.uid) > tuple(after))
    return [LiveRunKey(*row) for row in await session.execute(statement)]


async def by_uid(session: ReadSession, uid: str) -> RunRow | None:
    """Return the whole row of a run."""
    return await session.get(RunRow, uid)


async def mark_gone(session: WriteSession, uid: str, end: RunEnd, noticed_at: datetime, version: int) -> None:
    """Mark the run as missing from a list of this version; the first such time stands.

    The row gets the list's version: late events from the time before it change nothing any more.
    """
    statement = update(RunRow).where(RunRow.uid == uid, RunRow.resource_version <= version)
    first = case((RunRow.deleted_at.is_(None), noticed_at), else_=RunRow.deleted_at)
    values = {"deleted_at": first, "ended_at": end.at, "end_estimated": end.estimated, "seen_at": noticed_at}
    await session.execute(statement.values(**values, resource_version=version))


async def extend_estimated_end(session: WriteSession, uid: str, time: datetime) -> None:
    """Move the run's estimated end to `time`, at which it is now known to have lived.

    The end never moves back, nor beyond the time at which the run was found missing; a known end stands.
    Several moves in one transaction must be in the order of their uids.
    """
    lived = case((RunRow.deleted_at < time, RunRow.deleted_at), else_=time)
    statement = update(RunRow).where(
        RunRow.uid == uid, RunRow.end_estimated.is_(True), RunRow.ended_at < lived
    )
    await session.execute(statement.values(ended_at=lived))


async def reset_versions(session: WriteSession, above: int) -> None:
    """Reset versions, so that the next list is stored again after a restore of the cluster to `above`."""
    of_what_may_come_back = or_(RunRow.deleted_at.is_(None), RunRow.resource_version > above)
    await session.execute(update(RunRow).where(of_what_may_come_back).values(resource_version=0))


async def ends(session: ReadSession) -> dict[str, tuple[str, datetime | None]]:
    """Return uid -> the run's namespace, and its end; None before."""
    rows = await session.execute(select(RunRow.uid, RunRow.namespace, RunRow.ended_at))
    return {uid: (namespace, ended_at) for uid, namespace, ended_at in rows}
