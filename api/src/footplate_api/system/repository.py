"""The runs worth a gauge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select

from footplate_api.database import ReadSession
from footplate_api.models.run import Run
from footplate_contracts.names import Phase

_ENDED = [phase.value for phase in Phase if phase.terminal]


async def watched(
    session: ReadSession, changed_after: datetime, limit: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Live runs that train or ended lately, youngest first."""
    statement = (
        select(Run.uid, Run.namespace, Run.name, Run.phase, Run.step, Run.loss)
        .where(
            Run.deleted_at.is_(None),
            or_(Run.phase.is_(None), Run.phase.not_in(_ENDED), Run.seen_at > changed_after),
        )
        .order_by(Run.created_at.desc())
        .limit(limit)
    )
    return (await session.execute(statement)).all()
