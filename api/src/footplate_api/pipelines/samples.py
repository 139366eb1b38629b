"""Keeps samples within what may be kept: looked at with the rows, and deleted in small bites."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

from footplate_api.database import WORK_SECONDS, Database
from footplate_api.metrics.retention import Limits, Stock, allowances
from footplate_api.samples import retention, stocks

PAUSE_SECONDS: Final = 0.05  # between bites: others write, too
_PAGE: Final = 1000  # runs
_BITE: Final = 100  # steps that one transaction removes the samples of


async def thin(
    database: Database, ages: Mapping[str, timedelta | None], limits: Limits, room: int | None
) -> int:
    """Removes what is beyond the limits; from how many runs. `limits` are those of rows.

    `ages` are the times since runs ended; one that is not among them is left alone.
    """
    known = await _known(database)
    found = [Stock(run, steps, ages[run]) for run, (steps, _) in known.items() if run in ages]
    together = [sum(of_run[place] for of_run in known.values()) for place in (0, 1)]
    most = retention.most(room, *together)
    allowed = await asyncio.to_thread(allowances, found, retention.limits(limits), most)
    for run, keep in allowed.items():
        await _thin(database, run, keep)
    return len(allowed)


async def _known(database: Database) -> dict[str, tuple[int, int]]:
    """Run -> steps that have samples, and bytes of these."""
    found: dict[str, tuple[int, int]] = {}
    after = ""
    while True:
        async with database.read(WORK_SECONDS) as session:
            page = await stocks.of_runs(session, after, _PAGE)
        found.update((run, (steps, size)) for run, steps, size in page if steps)
        if not page:
            return found
        after = page[-1][0]


async def _thin(database: Database, run: str, keep: int) -> None:
    async with database.read(WORK_SECONDS) as session:
        places = await stocks.steps(session, run)
    gone = frozenset(retention.surplus(sorted({step for step, _ in places}), keep))
    going = sorted((segment, step) for step, segment in places if step in gone)
    for segment, some in groupby(going, itemgetter(0)):
        steps = [step for _, step in some]
        for first in range(0, len(steps), _BITE):
            async with database.write(WORK_SECONDS) as session:
                await stocks.remove(session, segment, steps[first : first + _BITE])
            await asyncio.sleep(PAUSE_SECONDS)
