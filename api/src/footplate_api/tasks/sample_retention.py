"""Retention of samples, after that of rows, in small transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Final

from footplate_api.db.database import WORK_SECONDS, Database
from footplate_api.metrics import repository as metrics
from footplate_api.metrics import step_ranges
from footplate_api.metrics.retention import RetentionLimits, RunRows, row_limits
from footplate_api.samples import repository, retention

PAUSE_SECONDS: Final = 0.05  # between bites: others write, too
_PAGE: Final = 1000  # runs
_BITE: Final = 100  # steps that one transaction removes the samples of


async def thin(
    database: Database, with_rows: Sequence[RunRows], limits: RetentionLimits, room: int | None
) -> int:
    """Delete samples beyond the limits, derived from the rows' `limits`; return how many runs lost some.

    A run that is not in `with_rows` is left alone.
    """
    known = await _known(database)
    found = [replace(run, rows=known[run.run_uid][0]) for run in with_rows if run.run_uid in known]
    together = [sum(of_run[place] for of_run in known.values()) for place in (0, 1)]
    most = retention.max_steps(room, *together)
    allowed = await asyncio.to_thread(row_limits, found, retention.limits(limits), most)
    thinned = 0
    for run, keep in allowed.items():
        if known[run][0] > retention.LAST:
            thinned += await _thin(database, run, keep)
    return thinned


async def _known(database: Database) -> dict[str, tuple[int, int]]:
    """Return run -> steps that have samples, each counted once a generation, and their bytes."""
    found: dict[str, tuple[int, int]] = {}
    after = ""
    while True:
        async with database.read(WORK_SECONDS) as session:
            page = await repository.count_by_run(session, after, _PAGE)
        found.update((run, (steps, size)) for run, steps, size in page if steps)
        if not page:
            return found
        after = page[-1][0]


async def _thin(database: Database, run: str, keep: int) -> bool:
    async with database.read(WORK_SECONDS) as session:
        places = await repository.list_steps(session, run)
        segments = (await metrics.segments(session, [run])).get(run, [])
    gone = await asyncio.to_thread(
        retention.expired_steps, places, step_ranges.effective_ranges(segments), keep
    )
    for segment, some in groupby(gone, itemgetter(0)):
        steps = [step for _, step in some]
        for first in range(0, len(steps), _BITE):
            async with database.write(WORK_SECONDS) as session:
                await repository.remove(session, segment, steps[first : first + _BITE])
            await asyncio.sleep(PAUSE_SECONDS)
    return bool(gone)
