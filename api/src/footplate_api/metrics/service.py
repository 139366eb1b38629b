"""Reads metric histories."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from footplate_api.db.database import ANSWER_SECONDS, Database, ReadSession
from footplate_api.errors import HistoriesBusy
from footplate_api.http.concurrency_limit import ConcurrencyLimit, refusals
from footplate_api.metrics import history, repository, step_ranges
from footplate_api.metrics.columns import HistoryColumns
from footplate_api.metrics.schemas import (
    DEFAULT_ROWS,
    GENERATION,
    MOST_CELLS,
    HistoryPart,
    Hole,
    MetricQuery,
)
from footplate_api.metrics.step_ranges import Extents, SegmentRange
from footplate_api.models.run import RunRow
from footplate_api.registry import lookup
from footplate_contracts.metrics import COLUMNS
from footplate_contracts.names import Phase

AT_ONCE: Final = 2  # requests: the longest takes 80 MB, and a thread
WAITING: Final = 128  # a page of a dashboard asks for dozens, of milliseconds each
OF_ONE_CALLER: Final = 48  # of these
WAIT_SECONDS: Final = 20.0  # for its turn
_REFUSAL: Final = refusals(
    HistoriesBusy,
    slow="Other history queries take long; retry later.",
    full="{} history queries wait already; retry later.",
)
_HOLES: Final = 100  # of one answer
_ROWS_A_SECOND: Final = 10_000  # beyond the usual ones, of a database that is busy
_BITE: Final = 10_000  # rows that are asked for at once: the driver unpacks them on the event loop
Bite = Callable[..., Awaitable[Sequence[Any]]]
_ENDED: Final = frozenset(phase.value for phase in Phase if phase.is_terminal)


@dataclass
class HistoryService:
    """Reader of metric histories; one instance per process."""

    database: Database
    turns: ConcurrencyLimit = field(
        default_factory=lambda: ConcurrencyLimit(AT_ONCE, WAITING, WAIT_SECONDS, _REFUSAL, OF_ONE_CALLER)
    )

    async def read(self, namespace: str, name: str, query: MetricQuery, caller: str) -> bytes:
        """Return the requested history as `MetricHistory` JSON; raises RunNotFound, HistoriesBusy.

        The response is built off the event loop, and after the database session: the longest one has more
        than a million numbers.
        """
        seconds = ANSWER_SECONDS + max(0, query.limit - DEFAULT_ROWS) / _ROWS_A_SECOND
        # Of a database that is silent all are told at once, and not one after the other.
        async with self.database.read() as session:
            run = await lookup.find(session, namespace, name, query.uid, query.former_namespaces)
        async with self.turns.acquire(caller):
            async with self.database.read(seconds) as session:
                part, table = await _found(session, run, query.page())
            return await asyncio.to_thread(_json, part, table)


async def _found(session: ReadSession, run: RunRow, query: MetricQuery) -> tuple[HistoryPart, HistoryColumns]:
    """Return the response without its columns, and its columns."""
    segments = (await repository.segments(session, [run.uid])).get(run.uid, [])
    chosen = (
        step_ranges.superseded_ranges(segments)
        if query.superseded
        else step_ranges.effective_ranges(segments)
    )
    part = history.clipped(chosen, query.from_step, query.to_step)
    extents = await repository.extents(session, part, max(query.limit + 1, _HOLES + 1 + len(part)))
    every = query.every or (1 if query.superseded else _stride(part, extents, query.limit))
    names = {
        number: text
        for number, text in (await repository.value_names(session, run.uid)).items()
        if query.includes(text)
    }
    table = HistoryColumns(
        [column for column in COLUMNS if query.includes(column.alias) and column.name != "step"],
        names,
        {known.id: f"{known.epoch}.{known.number}" for known in segments}
        if query.includes(GENERATION.alias)
        else None,
    )
    following = await _gather(session, table, part, extents, every, query.limit)
    about = HistoryPart.model_construct(
        run_uid=run.uid,
        step=[],
        every=every,
        next_cursor=None if following is None else str(following),
        holes=(None if query.superseded else _holes(run, chosen, extents, query)) or None,
    )
    return about, table


def _stride(part: Sequence[SegmentRange], extents: Extents, limit: int) -> int:
    """Return 1 if all rows fit, else the stride that thins them to `limit`."""
    if history.count_rows(part, extents) <= limit:
        return 1
    return history.stride(part[0].first, part[-1].last, limit)


async def _gather(
    session: ReadSession,
    table: HistoryColumns,
    part: Sequence[SegmentRange],
    extents: Extents,
    every: int,
    limit: int,
) -> int | None:
    """Add the rows to show to `table`; return the step that follows upon them, None at the end."""
    if not part:
        return None
    bites, following = await asyncio.to_thread(_bites, part, extents, every, limit)
    while bites and table.cells <= MOST_CELLS:
        rows = await bites.pop(0)(session, columns=table.column_names)
        await asyncio.to_thread(table.add, rows)
    if await asyncio.to_thread(table.fit, MOST_CELLS) or bites:
        return table.steps[-1] + 1
    return following


def _bites(
    part: Sequence[SegmentRange], extents: Extents, every: int, limit: int
) -> tuple[list[Bite], int | None]:
    """Return a statement for the rows to show, in order, and the step that follows them."""
    if every > 1:
        spans, following = history.buckets(part, every, limit)
        some = (spans[start : start + _BITE] for start in range(0, len(spans), _BITE))
        return [partial(repository.last_rows, spans=bite) for bite in some], following
    end, last = history.page_end(part, extents, limit), max(span.last for span in part)
    pages = history.pages(history.clipped(part, 0, end), extents, _BITE)
    return [partial(repository.rows, ranges=bite) for bite in pages], end + 1 if end < last else None


def _holes(run: RunRow, chosen: Sequence[SegmentRange], extents: Extents, query: MetricQuery) -> list[Hole]:
    """Return steps without a row; after the last row only of a run that has ended: others may send them."""
    if not chosen:
        return []
    ended = run.deleted_at is not None or run.phase in _ENDED
    last = max(chosen[-1].last, run.step if ended else 0)
    if query.to_step is not None:
        last = min(last, query.to_step)
    found = step_ranges.missing_ranges(chosen, extents, max(chosen[0].first, query.from_step), last)[:_HOLES]
    return [Hole(from_step=begin, to_step=end) for begin, end in found]


def _json(about: HistoryPart, table: HistoryColumns) -> bytes:
    about.step = list(table.steps)
    return table.json(about.model_dump_json(by_alias=True, exclude_none=True).encode())
