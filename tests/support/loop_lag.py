"""How long an event loop was kept from serving others, in CPU time of its thread.

CPU time rather than time on the clock: a machine that is busy with other things makes no
difference to it. What other threads do is not counted, nor is a wait.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

SAMPLE_SECONDS = 0.001


@dataclass
class LoopLag:
    """What the probe has seen."""

    longest: float = 0.0  # seconds of CPU between two of its turns


@asynccontextmanager
async def loop_lag() -> AsyncIterator[LoopLag]:
    """Samples while the block runs.

    What lives already is kept from the garbage collector, as the API does at its start: a test
    session holds millions of objects that are none of the loop's doing.
    """
    lag = LoopLag()
    gc.collect()
    gc.freeze()
    sampling = asyncio.create_task(_sample(lag))
    try:
        yield lag
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])
        gc.unfreeze()


async def _sample(lag: LoopLag) -> None:
    while True:
        before = time.thread_time()
        await asyncio.sleep(SAMPLE_SECONDS)
        lag.longest = max(lag.longest, time.thread_time() - before)
