"""The runs worth a gauge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, func, or_, select

from footplate_api.database import ReadSession
from footplate_api.models.metric import StepMetric
from footplate_api.models.run import Run
from footplate_contracts.names import Phase

_ENDED = [phase.value for phase in Phase if phase.terminal]


async def watched(
    session: ReadSession, changed_after: datetime, limit: int
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Live runs that train or ended lately, each with its newest metric row if it has one, youngest first."""
    steps = select(func.max(StepMetric.step)).where(StepMetric.run_uid == Run.uid)
    newest = steps.correlate(Run).scalar_subquery()
    statement = (
        select(
            Run.namespace,
            Run.name,
            Run.phase,
            Run.step,
            Run.loss,
            StepMetric,
        )
        .outerjoin(StepMetric, and_(StepMetric.run_uid == Run.uid, StepMetric.step == newest))
        .where(
            Run.deleted_at.is_(None),
            or_(Run.phase.is_(None), Run.phase.not_in(_ENDED), Run.seen_at > changed_after),
        )
        .order_by(Run.created_at.desc())
        .limit(limit)
    )
    return (await session.execute(statement)).all()
