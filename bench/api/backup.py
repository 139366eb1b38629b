"""How does telemetry fare while a gigabyte of SQLite is backed up?

A database of that size serves a thousand coordinators with a row of fifteen points a second each. Once all
have their pace, back-ups are made by the command by which the API has them made, with pauses as long as they
took: receipts during them are set against those of the pauses, in which as much was sent. Bar: 250 ms at the
99th percentile, as without back-ups (bench.api.fleet), and each row stored once.

Before that a single writer, without an API, commits 300 rows every 50 ms and waits for the disk: by itself,
while the file is copied, and while the copy is verified. Copies go to the disk of the database, unless
`--folder` names another one.

    python -m bench.api.backup [--points 84000000] [--coordinators 1000] [--backups 4] [--folder PATH]
        [--seconds N] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.api.fleet import BAR_SECONDS, TOLD, Seen, counted, percentiles, send
from bench.api.history import fill, sizes
from bench.api.senders import Load
from bench.api.serving import Usage, process

from footplate_api.backups.integrity import verify
from footplate_api.backups.snapshot import copy_database

SETTLED: Final = 30.0  # seconds after which all coordinators have their pace: at first they all come at once
MEASURED: Final = 40.0  # seconds that one back-up with the pause after it may take at most


def commits(database: Path, done: Callable[[], bool]) -> list[float]:
    """Seconds of each commit of a writer, until `done`."""
    taken = []
    with closing(sqlite3.connect(database, timeout=15, isolation_level=None)) as writer:
        for pragma in ("synchronous=FULL", "cache_size=-2048"):  # as the API has them
            writer.execute(f"PRAGMA {pragma}")
        writer.execute("CREATE TABLE IF NOT EXISTS probe (bytes BLOB)")
        while not taken or not done():
            begun = time.perf_counter()
            writer.execute("BEGIN IMMEDIATE")
            writer.executemany("INSERT INTO probe VALUES (?)", [(bytes(200),)] * 300)
            writer.execute("COMMIT")
            taken.append(time.perf_counter() - begun)
            time.sleep(0.05)
    return taken


def alone(database: Path, folder: Path, seconds: float) -> None:
    """Prints what commits take by themselves, and beside each part of a back-up."""
    target = folder / "probe.partial"
    parts = {"copied": (copy_database, database, target), "verified": (verify, target)}
    for name, (work, *arguments) in parts.items():
        until = time.monotonic() + seconds
        median, high = percentiles(commits(database, lambda until=until: time.monotonic() > until))
        print(f"commits of one writer:    median {median:.1f} ms, p99 {high:.1f} ms")
        begun = time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
        process.start()
        median, high = percentiles(commits(database, lambda process=process: not process.is_alive()))
        took = time.monotonic() - begun
        print(f"  while it is {name} ({took:.1f} s): median {median:.1f} ms, p99 {high:.1f} ms", flush=True)
    target.unlink()
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("DROP TABLE probe")


@dataclass
class Watch:
    """When back-ups were made, of the clock `time.monotonic`, and what the write-ahead log took."""

    during: list[tuple[float, float]] = field(default_factory=list)
    longest_log: int = 0  # bytes

    def covers(self, moment: float) -> bool:
        """Whether a back-up was being made."""
        return any(begun <= moment < ended for begun, ended in self.during)


async def back_up(url: str, folder: Path, count: int, watch: Watch) -> None:
    """So many back-ups, with pauses as long as they took."""
    environment = {**os.environ, "FOOTPLATE_DATABASE_URL": url, "FOOTPLATE_BACKUP_FOLDER": str(folder)}
    environment["FOOTPLATE_BACKUP_KEEP"] = "1"
    command = (sys.executable, "-m", "footplate_api.backups", "make")
    for _ in range(count):
        begun = time.monotonic()
        child = await asyncio.create_subprocess_exec(*command, env=environment)
        if await child.wait():
            raise SystemExit("a back-up failed")
        watch.during.append((begun, time.monotonic()))
        await asyncio.sleep(time.monotonic() - begun)


def bytes_of(file: Path) -> int:
    """What it takes; 0 while it is not there."""
    return file.stat().st_size if file.exists() else 0


async def observe(log: Path, watch: Watch) -> None:
    """How large the log is at most."""
    while True:
        watch.longest_log = max(watch.longest_log, bytes_of(log))
        await asyncio.sleep(0.1)


def report(seen: Seen, watch: Watch, size: float, stored: bool) -> bool:
    """Prints what was seen; whether the bar was reached."""
    beginning, end = watch.during[0][0], 2 * watch.during[-1][1] - watch.during[-1][0]
    measured = [known for known in seen.live if beginning <= known.moment < end]
    within = percentiles([known.seconds for known in measured if watch.covers(known.moment)])
    between = percentiles([known.seconds for known in measured if not watch.covers(known.moment)])
    took = [ended - begun for begun, ended in watch.during]
    print(f"database {size / 1e9:.2f} GB, load average {os.getloadavg()[0]:.1f}")
    print(f"all coordinators had their pace      {beginning - seen.paced:.0f} s before the first back-up")
    print(f"back-ups took, verified              {', '.join(f'{seconds:.1f}' for seconds in took)} s")
    print(f"write-ahead log at most              {watch.longest_log / 1e6:.0f} MB")
    bar = BAR_SECONDS * 1e3
    print(f"receipts during back-ups: median {within[0]:.0f} ms, p99 {within[1]:.0f} ms (bar {bar:.0f} ms)")
    print(f"receipts between them:    median {between[0]:.0f} ms, p99 {between[1]:.0f} ms")
    print(f"each row stored once                 {'yes' if stored else 'no'}")
    return stored and bool(measured) and within[1] <= bar


async def measure(
    address: str, usage: Usage, load: Load, url: str, folder: Path, count: int
) -> tuple[Seen, Watch]:
    """Telemetry, and back-ups once all coordinators have their pace."""
    watch = Watch()
    log = Path(f"{url.removeprefix('sqlite:///')}-wal")
    observing = asyncio.create_task(observe(log, watch))
    sending = asyncio.create_task(send(address, usage, load))
    await asyncio.sleep(min(SETTLED, load.seconds / 2))
    await back_up(url, folder, count, watch)
    seen = await sending
    observing.cancel()
    return seen, watch


def main() -> int:
    """Exit code 1 beyond the bar, or where a row is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=84_000_000, help="that the database has before")
    parser.add_argument("--coordinators", type=int, default=1000)
    parser.add_argument("--backups", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where back-ups go; default: beside the database")
    parser.add_argument("--seconds", type=int, help="of telemetry; default: as long as back-ups may take")
    parser.add_argument("--smoke", action="store_true", help="a small database and one back-up, in seconds")
    asked = parser.parse_args()
    points, coordinators, count = asked.points, asked.coordinators, asked.backups
    seconds = asked.seconds or round(SETTLED + MEASURED * count)
    if asked.smoke:
        points, coordinators, count, seconds = 150_000, 20, 1, 4
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir=asked.folder or name) as backups,
    ):
        url, folder = f"sqlite:///{name}/footplate.db", Path(backups)
        size = asyncio.run(fill(url, sizes(points)))
        alone(Path(name) / "footplate.db", folder, seconds=0.2 if asked.smoke else 10)
        before = asyncio.run(counted(url))
        load = Load(coordinators, seconds, 1.0, 0, 0, TOLD)
        with process(Path(name), url) as (address, usage):
            seen, watch = asyncio.run(measure(address, usage, load, url, folder, count))
        stored = asyncio.run(counted(url)) - before == load.rows
    return 0 if report(seen, watch, size, stored) else 1


if __name__ == "__main__":
    sys.exit(main())
