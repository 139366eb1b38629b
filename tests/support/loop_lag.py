"""How long an event loop was kept from serving others, in CPU time of its thread.

CPU time rather than time on the clock: a machine that is busy with other things makes little
difference to it. What other threads do is not counted, nor is a wait. Where the memory is slow, as on a
virtual machine among busy ones, the same work takes several times the CPU time: so a piece of work whose
time is known is done at once after what is measured, and its slowness is taken off.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import itemgetter

SAMPLE_SECONDS = 0.001
KNOWN_SECONDS = 0.023  # of CPU, that `_known_work` takes on the machine that limits are for


@dataclass
class LoopLag:
    """What the probe has seen."""

    longest: float = 0.0  # seconds of CPU between two of its turns, on the machine that limits are for


@asynccontextmanager
async def loop_lag() -> AsyncIterator[LoopLag]:
    """Samples while the block runs.

    What lives already is kept from the garbage collector, as the API does at its start: a test
    session holds millions of objects that are none of the loop's doing.
    """
    lag = LoopLag()
    inherited = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    sampling = asyncio.create_task(_sample(lag))
    try:
        yield lag
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        lag.longest /= slowness()
        if not inherited:
            gc.unfreeze()


async def _sample(lag: LoopLag) -> None:
    while True:
        before = time.thread_time()
        await asyncio.sleep(SAMPLE_SECONDS)
        lag.longest = max(lag.longest, time.thread_time() - before)


def slowness() -> float:
    """How many times longer than on the machine that limits are for a piece of work takes now, at least 1."""
    taken = []
    for _ in range(5):
        before = time.thread_time()
        _known_work()
        taken.append(time.thread_time() - before)
    return max(1.0, statistics.median(taken) / KNOWN_SECONDS)


def _known_work() -> None:
    """Makes, sorts and writes rows, as the API does."""
    rows = [{"name": f"e{number}", "at": number * 7 % 1000, "price": str(number)} for number in range(20_000)]
    json.dumps(sorted(rows, key=itemgetter("at")))
