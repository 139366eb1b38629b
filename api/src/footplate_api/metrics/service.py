"""Reads histories back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from footplate_api.database import ANSWER_SECONDS, Database, ReadSession
from footplate_api.metrics import further, history, lineage, repository
from footplate_api.metrics.lineage import Segment, Stretch
from footplate_api.metrics.schemas import (
    DEFAULT_ROWS,
    GENERATION,
    SHOWN,
    Hole,
    MetricHistory,
    MetricQuery,
)
from footplate_api.models.run import Run
from footplate_api.runs import service as runs
from footplate_contracts.metrics import COLUMNS
from footplate_contracts.names import Phase

_HOLES: Final = 100  # of one answer
_ROWS_A_SECOND: Final = 10_000  # beyond the usual ones, of a database that is busy
_BITE: Final = 10_000  # rows that are asked for at once: the driver unpacks them on the event loop
_ENDED: Final = frozenset(phase.value for phase in Phase if phase.terminal)


async def read(database: Database, namespace: str, name: str, query: MetricQuery) -> bytes:
    """The asked part of a run's history, a `MetricHistory` as JSON; raises RunNotFound.

    It is put together off the event loop, and once the database is done with: the longest answer has
    millions of numbers.
    """
    seconds = ANSWER_SECONDS + max(0, query.limit - DEFAULT_ROWS) / _ROWS_A_SECOND
    async with database.read(seconds) as session:
        together = await _found(session, namespace, name, query)
    return await asyncio.to_thread(together)


async def _found(session: ReadSession, namespace: str, name: str, query: MetricQuery) -> Callable[[], bytes]:
    """What makes the answer, of all that it takes."""
    run = await runs.get(session, namespace, name, query.uid, query.former_namespaces)
    segments = (await repository.segments(session, [run.uid])).get(run.uid, [])
    chosen = lineage.superseded(segments) if query.superseded else lineage.standing(segments)
    part = history.clipped(chosen, query.from_step, query.to_step)
    every = query.every or (1 if query.superseded else _stride(part, query.limit))
    columns = [column.name for column in COLUMNS if query.asks(column.alias) and column.name != "step"]
    rows, following = await _rows(session, part, every, columns, query.limit)
    names = await repository.names(session, run.uid)
    about = {
        "run_uid": run.uid,
        "every": every,
        "next_step": following,
        "holes": (None if query.superseded else _holes(run, chosen, query)) or None,
    }
    asked = {number: text for number, text in names.items() if query.asks(text)}
    return partial(_json, about, columns, rows, segments, asked, query)


def _stride(part: Sequence[Stretch], limit: int) -> int:
    """All rows where they fit, else what thins them to `limit`."""
    if not part or history.stored(part, part[-1].last) <= limit:
        return 1
    return history.stride(part[0].first, part[-1].last, limit)


async def _rows(
    session: ReadSession, part: Sequence[Stretch], every: int, columns: Sequence[str], limit: int
) -> tuple[Sequence[Any], int | None]:
    """(segment, step, *columns, further) of the rows to show, and the step that follows upon them."""
    found: list[Any] = []
    asked = [*columns, "further"]
    if not part:
        return found, None
    if every > 1:
        spans, following = history.buckets(part, every, limit)
        for start in range(0, len(spans), _BITE):
            found += await repository.thinned(session, spans[start : start + _BITE], asked)
        return found, following
    end, last = history.page_end(part, limit), max(stretch.last for stretch in part)
    for bite in history.pages(history.clipped(part, 0, end), _BITE):
        found += await repository.rows(session, bite, asked)
    return found, end + 1 if end < last else None


def _holes(run: Run, chosen: Sequence[Stretch], query: MetricQuery) -> list[Hole]:
    """Steps without a row; behind the last one only of a run that has ended: others may still bring them."""
    if not chosen:
        return []
    ended = run.deleted_at is not None or run.phase in _ENDED
    last = max(chosen[-1].last, run.step if ended else 0)
    if query.to_step is not None:
        last = min(last, query.to_step)
    found = lineage.holes(chosen, max(chosen[0].first, query.from_step), last)[:_HOLES]
    return [Hole(from_step=begin, to_step=end) for begin, end in found]


def _json(
    about: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Any],
    segments: Sequence[Segment],
    names: Mapping[int, str],
    query: MetricQuery,
) -> bytes:
    empty: list[Sequence[Any]] = [()] * (3 + len(columns))
    of_segment, step, *measured, packed = list(zip(*rows, strict=True)) or empty
    shown: dict[str, Any] = dict(zip(columns, measured, strict=True))
    if query.asks(GENERATION.alias):
        texts = {known.id: f"{known.epoch}.{known.number}" for known in segments}
        shown[GENERATION.name] = [texts[segment] for segment in of_segment]
    parts: dict[str, Any] = {**about, "step": list(step), "values": _further(packed, names)}
    for column in SHOWN:
        if column.name in shown:
            parts[column.name] = _column(shown[column.name], column.optional)
    answer = MetricHistory.model_construct(**parts)
    return answer.model_dump_json(by_alias=True, exclude_none=True).encode()


def _column(values: Sequence[Any], optional: bool) -> list[Any] | None:
    if optional:
        return list(values) if any(value is not None for value in values) else None
    return [math.nan if value is None else value for value in values]


def _further(
    packed: Sequence[bytes | None], names: Mapping[int, str]
) -> dict[str, list[float | None]] | None:
    """The further numbers that were asked for, as columns; None where no row has one."""
    if not names:
        return None
    unpacked = [further.unpack(numbers) if numbers else {} for numbers in packed]
    there = {number for row in unpacked for number in row}
    columns = {
        name: [row.get(number) for row in unpacked] for number, name in names.items() if number in there
    }
    return columns or None
