"""Coordinators as the API meets them, each with the buffer and the shipper of a real one.

Those that train have a row every so often; those that return bring a backlog, as after an outage.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import aiohttp

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.rendezvous import AgentIdentity
from footplate_contracts.reports import GenerationId, TelemetryItem
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.telemetry_sender import TelemetryDestination, TelemetrySender
from tests.support.review_server import of_pod

_BEGUN: Final = time.time() - 100_000  # rows that are months old would be thinned at once
_GENERATION: Final = GenerationId(epoch=1, number=1)
_AGENT: Final = AgentIdentity(index=0, incarnation=0, pod_name="w0", address="127.0.0.1", local_world_size=8)

# A thousand that are told to wait would each log it; `again` counts them all.
logging.getLogger("footplate_elastic.coordinator.telemetry_sender").setLevel(logging.ERROR)


@lru_cache(maxsize=50_000)  # those that return are about as far as each other, and this load shall be small
def item(step: int) -> TelemetryItem:
    """What rank 0's agent has of one step."""
    row = StepMetrics(
        step=step,
        time=_BEGUN + step,
        loss=2.718281828459045 + step * 1e-9,
        gradient_norm=0.5772156649015329,
        learning_rate=0.0006,
        tokens=step * 524_288,
        tokens_per_second=123_456.789,
        sample_digest=f"{step:016x}",
        step_seconds=1.0123,
        data_seconds=0.0123,
        compute_seconds=0.8765,
        communication_seconds=0.0456,
        optimizer_seconds=0.0789,
        mfu=0.4123,
        mfu_causal=0.3912,
        memory_bytes=68_719_476_736 + step,
        checkpoint_seconds=0.0,
    )
    return TelemetryItem(sequence=step, generation=_GENERATION, metrics=row)


@dataclass(frozen=True)
class Load:
    """What is sent: live coordinators with a row `every` so many seconds, and those that return."""

    coordinators: int
    seconds: int
    every: float
    returning: int
    backlog: int  # rows of each that returns
    told: int  # receipts after which a live one has its pace; what is measured begins when all have

    @property
    def rows(self) -> int:
        """Of all together."""
        return self.coordinators * self.steps + self.returning * self.backlog

    @property
    def steps(self) -> int:
        """Of a live coordinator."""
        return round(self.seconds / self.every)


@dataclass(frozen=True)
class Receipt:
    """Of a batch that is stored."""

    moment: float  # of the clock `time.monotonic`
    seconds: float  # since it was sent
    rows: int


@dataclass(frozen=True)
class Loopback(TelemetryDestination):
    """Over plain HTTP a real coordinator shows its token to nobody; this one has one of this bench alone."""

    def headers(self) -> dict[str, str]:
        """Of the next request."""
        return {**super().headers(), **of_pod(self.run_uid, "bench")}


@dataclass
class TimedShipper(TelemetrySender):
    """A shipper that notes how long its batches took to be stored."""

    receipts: list[Receipt] = field(default_factory=list)
    again: int = 0  # batches that had to be sent again

    async def send_batch(self, session: aiohttp.ClientSession) -> float | None:
        """Send the oldest batch; seconds after which to send again, None where that batch is settled."""
        started, before = time.monotonic(), len(self.buffer)
        offered = self.offered
        pause = await super().send_batch(session)
        if pause is None:
            rows = before - len(self.buffer) + self.offered - offered
            self.receipts.append(Receipt(time.monotonic(), time.monotonic() - started, rows))
        else:
            self.again += 1
        return pause

    offered: int = 0  # rows since it began

    def offer(self, first: int, count: int) -> None:
        """Rank 0 has finished the steps from `first` on."""
        items = [item(step) for step in range(first, first + count)]
        self.buffer.add_items(_AGENT, items, first, _GENERATION)
        self.offered += count
        self.wake()

    async def emptied(self, shipping: asyncio.Task[None]) -> None:
        """The run ends: returns once all its rows are stored."""
        self.over = lambda: True
        self.wake()
        while len(self.buffer):  # noqa: ASYNC110 - a buffer has no event for it
            await asyncio.sleep(0.05)
        shipping.cancel()
        with suppress(asyncio.CancelledError):
            await shipping


def coordinator(url: str, name: str) -> TimedShipper:
    """One with nothing in its buffer."""
    telemetry = f"{url}/v1/namespaces/bench/runs/{name}/telemetry"
    destination = Loopback(telemetry, None, f"uid-{name}", 1)
    return TimedShipper(TelemetryBuffer(keep=True), destination, random.Random(name))


async def live(shipper: TimedShipper, load: Load, offset: float) -> None:
    """A row every so often."""
    shipping = asyncio.create_task(shipper.run())
    begun = time.monotonic() + offset
    for step in range(1, load.steps + 1):
        await asyncio.sleep(max(0.0, begun + step * load.every - time.monotonic()))
        shipper.offer(step, 1)
    await shipper.emptied(shipping)


async def returning(shipper: TimedShipper, backlog: int) -> float:
    """A backlog, offered when there is room; seconds until all of it is stored."""
    started = time.monotonic()
    shipping = asyncio.create_task(shipper.run())
    for first in range(1, backlog + 1, 2000):
        while len(shipper.buffer) > 2000:  # noqa: ASYNC110 - a buffer has no event for it
            await asyncio.sleep(0.01)
        shipper.offer(first, min(2000, backlog + 1 - first))
    await shipper.emptied(shipping)
    return time.monotonic() - started


@dataclass(frozen=True)
class Returned:
    """What those that return have seen."""

    seconds: list[float]  # until all of it was stored, of each
    again: int  # batches that had to be sent again


def bring_back(url: str, load: Load) -> Returned:
    """All that return, in a process of their own: other machines would not hold up those that train."""

    async def bring() -> Returned:
        back = [coordinator(url, f"back-{number}") for number in range(load.returning)]
        seconds = await asyncio.gather(*(returning(shipper, load.backlog) for shipper in back))
        return Returned(seconds, sum(shipper.again for shipper in back))

    return asyncio.run(bring())


async def brought_back(url: str, load: Load) -> Returned:
    """The same; nothing where none return."""
    if not load.returning:
        return Returned([], 0)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        return await asyncio.get_running_loop().run_in_executor(apart, bring_back, url, load)
