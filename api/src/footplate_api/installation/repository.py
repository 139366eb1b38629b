"""The row that identifies the cluster whose history is stored. Mirrors also use it as their lock."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, select, update

from footplate_api.db.database import ReadSession, WriteSession
from footplate_api.models.installation import Installation

_ROW = Installation.id == 1


@dataclass(frozen=True)
class MirrorPosition:
    """Progress of the mirrors: the newest version of the current timeline."""

    timeline: int
    newest_version: int


async def mirror_position(session: ReadSession) -> MirrorPosition:
    """Return the progress of the mirrors."""
    row = (
        await session.execute(select(Installation.timeline, Installation.newest_version).where(_ROW))
    ).one()
    return MirrorPosition(row.timeline, row.newest_version)


async def advance(session: WriteSession, version: int, timeline: int | None = None) -> bool:
    """Record that Kubernetes has come to `version`, and block other mirrors until the commit.

    False if the cluster was restored since `timeline`: nothing of that timeline may be written then.
    """
    statement = update(Installation).where(_ROW)
    if timeline is not None:
        statement = statement.where(Installation.timeline == timeline)
    newest = case((Installation.newest_version < version, version), else_=Installation.newest_version)
    statement = statement.values(newest_version=newest)
    return await session.scalar(statement.returning(Installation.id)) is not None


async def lock(session: WriteSession) -> None:
    """Block other mirrors until the commit."""
    await advance(session, 0)


async def claim(session: WriteSession, cluster_uid: str) -> str:
    """Assign the database to this cluster if it has none; return the uid of the database's cluster."""
    free = update(Installation).where(_ROW, Installation.cluster_uid.is_(None))
    await session.execute(free.values(cluster_uid=cluster_uid))
    noted = await session.scalar(select(Installation.cluster_uid).where(_ROW))
    assert noted is not None
    return noted


async def begin_timeline(session: WriteSession, timeline: int, version: int) -> bool:
    """Begin the next timeline at `version`; return False if another mirror has ended this one already."""
    statement = update(Installation).where(_ROW, Installation.timeline == timeline)
    statement = statement.values(timeline=timeline + 1, newest_version=version)
    return await session.scalar(statement.returning(Installation.id)) is not None
