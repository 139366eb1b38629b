"""How much telemetry of a whole fleet does the API store, and how long does a receipt take?

A thousand coordinators, each with the buffer and the shipper of a real one, have a row of fifteen points a
second. Afterwards each row must be in the database once. What is measured begins when all of them have their
pace, after two receipts each, and ends with the last rows: how they begin, all in one second, is shown apart.
Bars on two cores, this load's own share included: 15,000 points a second with a receipt within 250 ms at the
99th percentile.

With `--returning N` as many coordinators bring 100,000 rows each meanwhile, as after an outage. Bars:
10,000 of these rows a second, and 500 ms for the receipts of the others.

Of ten minutes and more the API's memory has bars, too: 150 MB, and 1 MB of growth in ten minutes once a sixth
of the time is over (`--seconds 3600`: the last 50 minutes of an hour).

Measured on a new SQLite file and on a PostgreSQL of its own that waits for the disk. All that train are one
process, and all that return another: how late the loop of the first one was is within the receipts, and said.

    python -m bench.api.fleet [--coordinators 1000] [--seconds 120] [--returning 0] [--backlog 100000]
        [--every 1.0] [--database-url URL] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from bench.api.percentiles import percentile
from bench.api.senders import Load, Receipt, TimedShipper, brought_back, coordinator, live
from bench.api.serving import Usage, databases, process
from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.settings import with_driver

POINTS: Final = 15  # a row
BAR_SECONDS, BAR_SECONDS_RETURNING = 0.250, 0.500
BAR_ROWS_RETURNING: Final = 10_000  # a second
PRODUCED: Final = 0.99  # of what is produced in the measured time must be stored in it
BAR_MEGABYTES, BAR_GROWTH = 150.0, 1.0  # of the API; the second one in ten minutes
LONG: Final = 600  # seconds of a run that says something of memory
TOLD: Final = 2  # receipts, each of which tells how long to gather


async def probe(url: str, seconds: list[float]) -> None:
    """How long a reader waits meanwhile."""
    async with aiohttp.ClientSession(url) as session:
        while True:
            started = time.perf_counter()
            async with session.get("/readyz") as answer:
                answer.raise_for_status()
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.1)


async def lateness(seconds: list[float]) -> None:
    """How late this process's own loop is."""
    while True:
        started = time.perf_counter()
        await asyncio.sleep(0.02)
        seconds.append(time.perf_counter() - started - 0.02)


async def memory(usage: Usage, samples: list[tuple[float, float]]) -> None:
    """When, of the clock `time.monotonic`, and how many MB the API has."""
    while True:
        samples.append((time.monotonic(), usage.megabytes))
        await asyncio.sleep(1)


@dataclass
class Seen:
    """What a run of the benchmark has seen."""

    load: Load
    begun: float  # of the clock `time.monotonic`
    paced: float  # all live coordinators have their pace
    ended: float  # the last row was made, or the backlog was stored
    live: list[Receipt]
    backlog_seconds: list[float]
    again: int
    reads: list[float]
    late: list[float]
    memory: list[tuple[float, float]]

    @property
    def measured(self) -> list[Receipt]:
        """Receipts of live coordinators, once all had their pace, for as long as all have rows."""
        return [receipt for receipt in self.live if self.paced <= receipt.moment < self.ended]

    @property
    def beginning(self) -> list[Receipt]:
        """Those before."""
        return [receipt for receipt in self.live if receipt.moment < self.paced]

    @property
    def points(self) -> float:
        """Stored a second."""
        return POINTS * sum(receipt.rows for receipt in self.measured) / (self.ended - self.paced)

    @property
    def produced(self) -> float:
        """Points made a second."""
        return POINTS * self.load.coordinators / self.load.every

    @property
    def returned(self) -> float:
        """Rows a second of those that return."""
        return self.load.returning * self.load.backlog / max(self.backlog_seconds)

    @property
    def growth(self) -> float:
        """MB in ten minutes, by the line through what was seen once a sixth of the time was over."""
        early = self.begun + self.load.seconds / 6
        times, sizes = zip(*((at, size) for at, size in self.memory if at >= early), strict=True)
        return 600 * statistics.linear_regression(times, sizes).slope


async def send(url: str, usage: Usage, load: Load) -> Seen:
    """All coordinators at once; the live ones spread over a step."""
    fleet = [coordinator(url, f"live-{number}") for number in range(load.coordinators)]
    reads: list[float] = []
    late: list[float] = []
    sizes: list[tuple[float, float]] = []
    works = (probe(url, reads), lateness(late), memory(usage, sizes))
    watching = [asyncio.create_task(work) for work in works]
    begun = time.monotonic()
    training = asyncio.gather(
        *(
            live(shipper, load, load.every * number / load.coordinators)
            for number, shipper in enumerate(fleet)
        )
    )
    back = await brought_back(url, load)
    await training
    for task in watching:
        task.cancel()
    receipts = [receipt for shipper in fleet for receipt in shipper.receipts]
    again = sum(shipper.again for shipper in fleet) + back.again
    ended = begun + min(load.seconds, max(back.seconds, default=load.seconds))
    paced = max((moments(shipper)[: load.told] or [begun])[-1] for shipper in fleet)
    return Seen(load, begun, paced, ended, receipts, back.seconds, again, reads, late, sizes)


def moments(shipper: TimedShipper) -> list[float]:
    """When it had its receipts."""
    return [receipt.moment for receipt in shipper.receipts]


async def counted(url: str) -> int:
    """Rows that the database has."""
    opened = Database(with_driver(url))
    async with opened.read(600) as session:
        found = int((await session.execute(text("SELECT count(*) FROM metric_rows"))).scalar_one())
    await opened.close()
    return found


def percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th, in milliseconds."""
    median = statistics.median(seconds) if seconds else 0.0
    return median * 1e3, percentile(seconds) * 1e3


@dataclass(frozen=True)
class Cost:
    """What both sides took of the machine."""

    api_seconds: float
    own_seconds: float
    elapsed: float
    load_average: float


def report(name: str, seen: Seen, stored: int, cost: Cost) -> bool:
    """Prints what was seen; whether the bars were reached."""
    load = seen.load
    bar = BAR_SECONDS_RETURNING if load.returning else BAR_SECONDS
    median, high = percentiles([receipt.seconds for receipt in seen.measured])
    first, first_high = percentiles([receipt.seconds for receipt in seen.beginning])
    late, late_high = percentiles(seen.late)
    print(f"-- {name}, load average {cost.load_average:.1f}")
    print(f"rows sent, and in the database       {load.rows:,}, {stored:,}")
    print(f"points a second, produced and stored {seen.produced:,.0f}, {seen.points:,.0f}")
    print(f"receipts: median {median:.0f} ms, p99 {high:.0f} ms (bar {bar * 1e3:.0f} ms)")
    paced = seen.paced - seen.begun
    print(f"  while all begin ({paced:.0f} s): median {first:.0f} ms, p99 {first_high:.0f} ms")
    print(f"  of which this load's own loop was late: median {late:.0f} ms, p99 {late_high:.0f} ms")
    print(f"batches that were sent again         {seen.again:10,}")
    print(
        f"/readyz meanwhile: p99 {percentiles(seen.reads)[1]:.0f} ms, longest {max(seen.reads) * 1e3:.0f} ms"
    )
    shares = cost.api_seconds / cost.elapsed, cost.own_seconds / cost.elapsed
    print(f"of a core: API {shares[0]:.2f}, this load {shares[1]:.2f}")
    sizes = [size for _, size in seen.memory]
    rest, most, last = sizes[0], max(sizes), sizes[-1]
    print(f"memory of the API: at rest {rest:.0f} MB, at most {most:.0f} MB, at last {last:.0f} MB")
    good = stored == load.rows and high <= bar * 1e3 and seen.points >= PRODUCED * seen.produced
    if load.returning:
        print(f"rows a second of those that return   {seen.returned:10,.0f} (bar {BAR_ROWS_RETURNING:,})")
        good = good and seen.returned >= BAR_ROWS_RETURNING
    elif load.seconds >= LONG:
        print(f"  bar {BAR_MEGABYTES:.0f} MB; in ten minutes {seen.growth:+.2f} MB (bar {BAR_GROWTH:.0f})")
        good = good and most <= BAR_MEGABYTES and seen.growth <= BAR_GROWTH
    return good


def own_seconds() -> float:
    """CPU of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(spent.ru_utime + spent.ru_stime for spent in used)


def measure(name: str, url: str, folder: Path, load: Load) -> bool:
    """One database; whether the bars were reached."""
    with process(folder, url) as (address, usage):
        before, own, begun = Usage(usage.pid).cpu_seconds, own_seconds(), time.monotonic()
        seen = asyncio.run(send(address, usage, load))
        cost = Cost(
            usage.cpu_seconds - before,
            own_seconds() - own,
            time.monotonic() - begun,
            os.getloadavg()[0],
        )
    return report(name, seen, asyncio.run(counted(url)), cost)


@contextmanager
def chosen(url: str | None, folder: Path, smoke: bool) -> Iterator[dict[str, str]]:
    """The database that was asked for, or both kinds, or a file alone."""
    if url is not None:
        yield {url: url}
        return
    with databases(folder, smoke) as both:
        yield both


def main() -> int:
    """Exit code 1 beyond a bar, or where a row is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coordinators", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two rows of a coordinator")
    parser.add_argument("--returning", type=int, default=0)
    parser.add_argument("--backlog", type=int, default=100_000, help="rows of each that returns")
    parser.add_argument("--database-url", help="default: a new SQLite file, and then a new PostgreSQL")
    parser.add_argument("--smoke", action="store_true", help="twenty coordinators for a second, on SQLite")
    asked = parser.parse_args()
    load = Load(asked.coordinators, asked.seconds, asked.every, asked.returning, asked.backlog, TOLD)
    if asked.smoke:
        load = Load(20, 1, 1.0, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name, chosen(asked.database_url, Path(name), asked.smoke) as urls:
        reached = [measure(kind, url, Path(name), load) for kind, url in urls.items()]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
