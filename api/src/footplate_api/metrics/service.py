"""Takes telemetry in and reads histories back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

from pydantic.alias_generators import to_camel

from footplate_api.checkpoints import repository as checkpoints
from footplate_api.database import ReadSession, WriteSession
from footplate_api.errors import RunMismatch
from footplate_api.metrics import history, repository
from footplate_api.metrics.schemas import MetricHistory, MetricName, MetricQuery
from footplate_api.runs import repository as runs
from footplate_api.runs import service as run_service
from footplate_contracts.reports import TelemetryBatch, TelemetryReceipt


async def ingest(session: WriteSession, namespace: str, name: str, batch: TelemetryBatch) -> TelemetryReceipt:
    """Stores a batch; sending it again changes nothing.

    A run that the mirror has not seen yet is taken on trust; one that it knows under
    another name raises RunMismatch. Values that no column holds raise Invalid.
    """
    history.check(batch)
    known = await runs.names_of(session, batch.run_uid)
    if known not in (None, (namespace, name)):
        raise RunMismatch(
            f"body.runUid: {batch.run_uid!r} is the run {known[0]}/{known[1]}, not {namespace}/{name}"
        )
    await repository.store(session, batch.run_uid, history.newest(batch.rows))
    await checkpoints.store(session, batch.run_uid, batch.checkpoints)
    return TelemetryReceipt(rows=len(batch.rows), checkpoints=len(batch.checkpoints))


async def read(session: ReadSession, namespace: str, name: str, query: MetricQuery) -> MetricHistory:
    """The asked part of a run's history; raises RunNotFound."""
    run = await run_service.get(session, namespace, name, query.uid)
    found = await repository.bounds(session, run.uid, query.from_step, query.to_step)
    if found is None:
        return _columns(run.uid, query, query.every or 1, [], None)
    first, last = found
    every = query.every or history.stride(first, last, query.limit)
    rows = await repository.rows(session, run.uid, first, last, every, query.limit + 1)
    following = rows[query.limit].step if len(rows) > query.limit else None
    return _columns(run.uid, query, every, rows[: query.limit], following)


def _float(name: str) -> Callable[[Any], float]:
    def read_float(row: Any) -> float:
        value = getattr(row, name)
        return math.nan if value is None else float(value)

    return read_float


_READERS: Final[dict[MetricName, Callable[[Any], Any]]] = {
    MetricName.TIME: _float("time"),
    MetricName.LOSS: _float("loss"),
    MetricName.GRADIENT_NORM: _float("gradient_norm"),
    MetricName.LEARNING_RATE: _float("learning_rate"),
    MetricName.TOKENS: lambda row: row.tokens,
    MetricName.TOKENS_PER_SECOND: _float("tokens_per_second"),
    MetricName.SAMPLE_DIGEST: lambda row: row.sample_digest,
    MetricName.GENERATION: lambda row: f"{row.epoch}.{row.number}",
}
_OPTIONAL: Final = {MetricName(to_camel(name)): attrgetter(name) for name in repository.OPTIONAL}


def _columns(
    run_uid: str, query: MetricQuery, every: int, rows: Sequence[Any], following: int | None
) -> MetricHistory:
    columns: dict[str, list[Any] | None] = {
        name.value: [_READERS[name](row) for row in rows] for name in query.names if name in _READERS
    }
    for name in query.names:
        if name in _OPTIONAL:
            values = [_OPTIONAL[name](row) for row in rows]
            columns[name.value] = values if any(value is not None for value in values) else None
    return MetricHistory.model_validate(
        {
            "runUid": run_uid,
            "every": every,
            "nextStep": following,
            "step": [row.step for row in rows],
            **columns,
        }
    )
