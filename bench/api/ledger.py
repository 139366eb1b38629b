"""How long does it take to reckon all that was used anew, from the stored rows? Bar: 60 s, bit-equal twice.

10,000 runs of five attempts with eight pods each, over three months, and twenty changes of prices: of every
attempt, in every month, dollars by the book, energy and carbon, exact; by the functions by which the API
answers. The rows are read from a new SQLite file, and from a PostgreSQL of its own.

    python -m bench.api.ledger [--runs 10000] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from bench.api.serving import databases

from footplate_api.costs import aggregation
from footplate_api.costs.aggregation import KeyFunctions
from footplate_api.costs.rows import edges
from footplate_api.db import migrate
from footplate_api.db.bulk import insert_missing
from footplate_api.db.database import WORK_SECONDS, Database
from footplate_api.models.base import table_of
from footplate_api.models.usage import NodeUsageRow, PodUsageRow
from footplate_api.settings import with_driver
from footplate_api.tariff.service import TariffReader
from footplate_api.usage import usage_rows
from footplate_ledger.account import Tariff
from footplate_ledger.cost_sums import CostAggregator, PeriodRates
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBookEntry
from footplate_ledger.units import Energy, HourlyRate, Seconds
from footplate_ledger.usage import TOLD, EndTime, MeasuredEnergy, NodeLifetime, Owner, PodAllocation
from tests.component.footplate_api.usages import enter_all
from tests.support.usage_worlds import DAY, H100, HOUR, SPOT, T0, node, pod

BAR: Final = 60.0  # seconds
ATTEMPTS: Final = 5
PODS: Final = 8  # of an attempt
CHANGES: Final = 20  # of prices
NODES: Final = 2400
TIME: Final = Interval(T0, T0 + 90 * DAY)
ROWS_AT_ONCE: Final = 5000


def pods(runs: int) -> Iterator[PodAllocation]:
    """Each holds four or all of eight devices for some hours, and one in two was measured."""
    for number in range(runs):
        owner = Owner("TrainingRun", f"team-{number % 50}", f"run-{number}", f"uid-{number}")
        start = TIME.start + number * (TIME.end - TIME.start - 3 * DAY) // runs
        for attempt in range(1, ATTEMPTS + 1):
            length = HOUR + (number * 7919 + attempt * 104_729) % (8 * HOUR)
            for part in range(PODS):
                where = (number * PODS + part) % NODES
                devices = 4 if number % 3 == 0 else 8
                joules = Energy(Fraction(length * devices * 600_000)) if part % 2 else Energy()
                yield pod(
                    f"{number}-{attempt}-{part}",
                    owner=owner,
                    attempt=attempt,
                    node=f"n{where}",
                    sku=SPOT if where % 2 else H100,
                    start=start,
                    end=EndTime(TOLD, start + length),
                    devices=devices,
                    measured=MeasuredEnergy(joules, Seconds(Fraction(length * devices if part % 2 else 0))),
                )
            start += length + 60


def nodes() -> Iterator[NodeLifetime]:
    """Two thirds of those that pods are on: of the others only pods tell."""
    for number in range(NODES * 2 // 3):
        there = node(f"n{number}", start=TIME.start - DAY, sku=SPOT if number % 2 else H100)
        yield replace(there, end=EndTime(TOLD, TIME.end))


def prices() -> list[PriceBookEntry]:
    """Changes of both SKUs, some of them corrections."""
    return [
        PriceBookEntry(
            f"e{number}",
            SPOT if number % 2 else H100,
            HourlyRate(Fraction(10**10 + number * 123_456_789)),
            TIME.start + (number // 2 - 1) * 9 * DAY,
            created_at=TIME.start + number * 4 * DAY,
            supersedes=f"e{number - 2}" if number % 5 == 4 else None,
        )
        for number in range(CHANGES)
    ]


async def fill(database: Database, runs: int) -> int:
    """Puts the rows into the database; how many pods."""
    count = 0
    for model, rows in (
        (NodeUsageRow, map(usage_rows.node_row, nodes())),
        (PodUsageRow, map(usage_rows.pod_row, pods(runs))),
    ):
        for part in parts(rows):
            async with database.write(None) as session:
                values = [tuple(row.values()) for row in part]
                await insert_missing(session, table_of(model), tuple(part[0]), values)
            count = count + len(part) if model is PodUsageRow else 0
    await enter_all(database, prices())
    return count


def parts(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Some at a time."""
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == ROWS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


async def rebuilt(database: Database) -> tuple[str, int]:
    """A digest of all amounts, exact, and how many attempts there are."""
    tariff = await TariffReader(database).read()
    cost_sums = CostAggregator(tariff, TIME.end, edges(TIME, [TIME]))
    keys = KeyFunctions(lambda used: (used.owner.uid, used.attempt))
    async with database.read(WORK_SECONDS * 10) as session:
        await aggregation.add_usage(session, cost_sums, TIME, keys)
    digest = await asyncio.to_thread(digested, cost_sums, tariff)
    return digest, len({key for key, _ in cost_sums.found})


def digested(cost_sums: CostAggregator, tariff: Tariff) -> str:
    """Of every amount of every attempt in every month."""
    made = hashlib.sha256()
    rates = PeriodRates(tariff.book)
    for (key, slot), cost_sum in sorted(cost_sums.found.items()):
        money = cost_sum.priced(rates).money.exact
        carbon = sorted((rank.value, grams.exact) for rank, grams in cost_sum.carbon.items())
        made.update(repr((key, slot, money, cost_sum.energy.exact, carbon, cost_sum.device_seconds)).encode())
    return made.hexdigest()


async def measure(url: str, runs: int) -> tuple[list[tuple[float, float]], set[str]]:
    """Seconds of each of two rebuilds, by the clock and of this process's CPU, and what they gave."""
    database = Database(with_driver(url))
    await migrate.upgrade(database)
    count = await fill(database, runs)
    seconds, digests = [], set()
    for _ in range(2):
        started, used = time.perf_counter(), time.process_time()
        digest, attempts = await rebuilt(database)
        seconds.append((time.perf_counter() - started, time.process_time() - used))
        digests.add(digest)
        if attempts != runs * ATTEMPTS or count != attempts * PODS:
            raise SystemExit(f"{attempts} attempts of {count} pods were reckoned")
    await database.close()
    return seconds, digests


def main(argv: list[str] | None = None) -> int:
    """Prints a line a database; exit code 1 where one is slower than the bar, or any two differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--smoke", action="store_true", help="few runs, in seconds, and no bar")
    chosen = parser.parse_args(argv)
    runs = 20 if chosen.smoke else chosen.runs
    print(f"{runs:,} runs x {ATTEMPTS} attempts x {PODS} pods, {CHANGES} prices; bar {BAR:.0f} s, bit-equal")
    slowest, digests = 0.0, set[str]()
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        for database, url in urls.items():
            seconds, found = asyncio.run(measure(url, runs))
            slowest, digests = max(slowest, *(took for took, _ in seconds)), digests | found
            said = "   ".join(f"{took:6.1f} s ({used:.1f} s of CPU)" for took, used in seconds)
            print(f"{database:12} {said}   {' '.join(sorted(digest[:16] for digest in found))}")
    if len(digests) != 1:
        print("not bit-equal")
        return 1
    return 0 if chosen.smoke or slowest <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
