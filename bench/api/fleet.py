"""How much telemetry of a whole fleet does the API store, and how long does a receipt take?

A thousand coordinators, each with the buffer and the shipper of a real one, have a row of fifteen points a
second. Afterwards each row must be in the database once. Bars on two cores, this load's own share included:
15,000 points a second with a receipt within 250 ms at the 99th percentile.

With `--returning N` as many coordinators bring 100,000 rows each meanwhile, as after an outage. Bars:
10,000 of these rows a second, and 500 ms for the receipts of the others.

    python -m bench.api.fleet [--coordinators 1000] [--seconds 300] [--returning 0] [--database-url URL]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from bench.api.serving import Usage, database, process
from sqlalchemy import text

from footplate_api.database import Database
from footplate_api.settings import with_driver
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.reports import AgentIdentity, GenerationId, TelemetryItem
from footplate_elastic.coordinator.shipping import Destination, Shipper
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from tests.support.review_server import of_pod

POINTS: Final = 15  # a row
BAR_SECONDS, BAR_SECONDS_RETURNING = 0.250, 0.500
BAR_ROWS_RETURNING: Final = 10_000  # a second
BACKLOG: Final = 100_000  # rows that one that returns has
_GENERATION: Final = GenerationId(epoch=1, number=1)
_AGENT: Final = AgentIdentity(index=0, incarnation=0, pod_name="w0", address="127.0.0.1", local_world_size=8)


def item(step: int) -> TelemetryItem:
    """What rank 0's agent has of one step."""
    row = StepMetrics(
        step=step,
        time=1_790_000_000.123 + step,
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
class Loopback(Destination):
    """Over plain HTTP a real coordinator shows its token to nobody; this one has one of this bench alone."""

    def headers(self) -> dict[str, str]:
        """Of the next request."""
        return {**super().headers(), **of_pod(self.run_uid, "bench")}


@dataclass
class TimedShipper(Shipper):
    """A shipper that notes how long its batches took to be stored."""

    receipts: list[float] = field(default_factory=list)
    again: int = 0  # batches that had to be sent again

    async def ship(self, session: aiohttp.ClientSession) -> float | None:
        """Send the oldest batch; seconds after which to send again, None where that batch is settled."""
        started = time.perf_counter()
        pause = await super().ship(session)
        if pause is None:
            self.receipts.append(time.perf_counter() - started)
        else:
            self.again += 1
        return pause


def coordinator(url: str, name: str) -> TimedShipper:
    """One with nothing in its buffer."""
    telemetry = f"{url}/v1/namespaces/bench/runs/{name}/telemetry"
    destination = Loopback(telemetry, None, f"uid-{name}", 1)
    return TimedShipper(TelemetryBuffer(keep=True), destination, random.Random(name))


def offer(shipper: TimedShipper, first: int, count: int) -> None:
    """Rank 0 has finished the steps from `first` on."""
    items = [item(step) for step in range(first, first + count)]
    shipper.buffer.offer(_AGENT, items, first, _GENERATION)
    shipper.wake()


async def live(shipper: TimedShipper, seconds: int, offset: float) -> None:
    """A row a second."""
    shipping = asyncio.create_task(shipper.run())
    begun = time.monotonic() + offset
    for step in range(1, seconds + 1):
        await asyncio.sleep(max(0.0, begun + step - time.monotonic()))
        offer(shipper, step, 1)
    await emptied(shipper, shipping)


async def emptied(shipper: TimedShipper, shipping: asyncio.Task[None]) -> None:
    """Returns once all rows are stored."""
    while len(shipper.buffer):  # noqa: ASYNC110 - a buffer has no event for it
        await asyncio.sleep(0.05)
    shipping.cancel()
    with suppress(asyncio.CancelledError):
        await shipping


async def returning(shipper: TimedShipper) -> float:
    """A backlog, offered when there is room; seconds until all of it is stored."""
    started = time.monotonic()
    shipping = asyncio.create_task(shipper.run())
    for first in range(1, BACKLOG + 1, 2000):
        while len(shipper.buffer) > 2000:  # noqa: ASYNC110 - a buffer has no event for it
            await asyncio.sleep(0.01)
        offer(shipper, first, min(2000, BACKLOG + 1 - first))
    await emptied(shipper, shipping)
    return time.monotonic() - started


async def probe(url: str, seconds: list[float]) -> None:
    """How long a reader waits meanwhile."""
    async with aiohttp.ClientSession(url) as session:
        while True:
            started = time.perf_counter()
            async with session.get("/readyz") as answer:
                answer.raise_for_status()
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.1)


@dataclass
class Seen:
    """What a run of the benchmark has seen."""

    rows: int
    seconds: float
    receipts: list[float]
    backlog_seconds: list[float]
    again: int
    reads: list[float]


async def send(url: str, coordinators: int, seconds: int, late: int) -> Seen:
    """All coordinators at once; the live ones spread over a second."""
    fleet = [coordinator(url, f"live-{number}") for number in range(coordinators)]
    back = [coordinator(url, f"back-{number}") for number in range(late)]
    reads: list[float] = []
    reading = asyncio.create_task(probe(url, reads))
    started = time.monotonic()
    training = asyncio.gather(
        *(live(shipper, seconds, number / coordinators) for number, shipper in enumerate(fleet))
    )
    backlog = await asyncio.gather(*(returning(shipper) for shipper in back))
    await training
    elapsed = time.monotonic() - started
    reading.cancel()
    return Seen(
        rows=coordinators * seconds + late * BACKLOG,
        seconds=elapsed,
        receipts=[second for shipper in fleet for second in shipper.receipts],
        backlog_seconds=backlog,
        again=sum(shipper.again for shipper in [*fleet, *back]),
        reads=reads,
    )


async def counted(url: str) -> int:
    """Rows that the database has."""
    opened = Database(with_driver(url))
    async with opened.read(600) as session:
        found = int((await session.execute(text("SELECT count(*) FROM metric_rows"))).scalar_one())
    await opened.close()
    return found


def percentile(seconds: Sequence[float], percent: int) -> float:
    """Milliseconds."""
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1e3


def report(seen: Seen, stored: int, usage: tuple[float, float], load: float) -> bool:
    """Prints what was seen; whether the bars were reached."""
    cpu, megabytes = usage
    rate = (seen.rows - len(seen.backlog_seconds) * BACKLOG) / seen.seconds
    bar = BAR_SECONDS_RETURNING if seen.backlog_seconds else BAR_SECONDS
    high = percentile(seen.receipts, 99)
    median, reads = percentile(seen.receipts, 50), percentile(seen.reads, 99)
    print(f"rows sent, and in the database       {seen.rows:,}, {stored:,}")
    print(f"points a second of live coordinators {rate * POINTS:10,.0f}")
    print(f"receipts: median {median:.0f} ms, p99 {high:.0f} ms (bar {bar * 1e3:.0f} ms)")
    print(f"batches that were sent again         {seen.again:10,}")
    print(f"/readyz meanwhile: p99 {reads:.0f} ms, longest {max(seen.reads) * 1e3:.0f} ms")
    print(f"CPU seconds: API {cpu:.0f}, this load {load:.0f}, of {2 * seen.seconds:.0f}")
    print(f"memory of the API, afterwards        {megabytes:10.0f} MB")
    good = stored == seen.rows and high <= bar * 1e3
    if seen.backlog_seconds:
        back = len(seen.backlog_seconds) * BACKLOG / max(seen.backlog_seconds)
        print(f"rows a second of those that return   {back:10,.0f} (bar {BAR_ROWS_RETURNING:,})")
        good = good and back >= BAR_ROWS_RETURNING
    return good


def main() -> int:
    """Exit code 1 beyond a bar, or where a row is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coordinators", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--returning", type=int, default=0)
    parser.add_argument("--database-url", help="default: a new SQLite file")
    parser.add_argument("--smoke", action="store_true", help="twenty coordinators for a second")
    arguments = parser.parse_args()
    coordinators, seconds = (20, 1) if arguments.smoke else (arguments.coordinators, arguments.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = database(arguments.database_url, folder)
        with process(folder, url) as (address, usage):
            before = Usage(usage.pid).cpu_seconds
            seen = asyncio.run(send(address, coordinators, seconds, arguments.returning))
            taken = usage.cpu_seconds - before, usage.megabytes
        stored = asyncio.run(counted(url))
    own = resource.getrusage(resource.RUSAGE_SELF)
    return 0 if report(seen, stored, taken, own.ru_utime + own.ru_stime) else 1


if __name__ == "__main__":
    sys.exit(main())
