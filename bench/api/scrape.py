"""How long does a scrape of /metrics take with 1,000 live of 30,000 runs? Bar: 100 ms at the median.

Each live run has a history, sent as a coordinator does, and of those that train (a third) status and
newest row have changed before each scrape. Measured on a new SQLite file and on a PostgreSQL of its own,
from the request to the last byte of the answer, by one client; and how long another client waits
meanwhile for an answer that costs nothing.

    python -m bench.api.scrape [--runs 30000] [--live 1000] [--rows 50] [--scrapes 30] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from bench.api.senders import item
from bench.api.serving import api, databases
from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.registry import repository, run_rows
from footplate_api.runs.schemas import EXAMPLE
from footplate_api.settings import with_driver
from tests.support.review_server import BEARER, of_pod

BAR = 0.100  # seconds
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
EXPORTS_SECONDS = 30.0  # until a replica exports at the latest
PARTS = ("stepSeconds", "dataSeconds", "computeSeconds", "communicationSeconds", "optimizerSeconds")


@dataclass(frozen=True)
class Size:
    """How much is stored, and how often it is asked for."""

    runs: int
    live: int
    rows: int
    scrapes: int


def trains(number: int, size: Size) -> bool:
    """Whether the run of this number does."""
    return number < size.live and number % 3 == 0


def run(number: int, size: Size, change: int = 0) -> dict[str, Any]:
    """A third of those that live trains, the others wait; of the rest half are deleted, half only over."""
    live = number < size.live
    over = ("Succeeded", "Failed")[number % 2]
    phase = "Running" if trains(number, size) else "Queued" if live else over
    created = BEGIN + timedelta(minutes=number)
    attempts = [{"number": number, "message": "peer lost " * 20} for number in range(8)]
    manifest = {
        "metadata": {
            "uid": f"uid-{number}",
            "namespace": "bench",
            "name": f"run-{number}",
            "resourceVersion": str(number + 1 + change * size.runs),
            "creationTimestamp": created.isoformat(),
        },
        "spec": dict(EXAMPLE["spec"]),
        "status": {
            "phase": phase,
            "progress": {
                "step": number + change,
                "totalSteps": 40_000,
                "percentage": 2.5,
                "estimatedRemainingSeconds": 9_000 - change,
                "lastUpdatedTime": created.isoformat(),
            },
            "checkpoint": {
                "latestStep": number,
                "lastCommittedTime": created.isoformat(),
                "uri": "/shared/checkpoints",
            },
            "wallSeconds": {"productive": 90.5 + change, "checkpointing": 0.25},
            "goodput": 0.9,
            "restarts": 8,
            "attempts": attempts,
        },
    }
    gone = created if not live and number % 4 < 2 else None
    return {**run_rows.row(manifest, created), "deleted_at": gone}


async def fill(url: str, size: Size) -> None:
    """Puts the runs into the migrated database."""
    await store(url, [run(number, size) for number in range(size.runs)])


async def store(url: str, runs: Sequence[dict[str, Any]]) -> None:
    """As the mirror does."""
    opened = Database(with_driver(url))
    for start in range(0, len(runs), 1000):
        async with opened.write() as session:
            await repository.store_runs(session, runs[start : start + 1000])
    await opened.close()


async def settle(url: str) -> None:
    """Does what PostgreSQL's autovacuum does within a minute."""
    opened = Database(with_driver(url))
    if opened.engine.dialect.name == "postgresql":
        async with opened.engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.execute(text("VACUUM ANALYZE"))
    await opened.close()


def send(client: httpx.Client, numbers: Iterable[int], steps: range) -> None:
    """A piece of the history of each of these runs, of sixteen at a time: each waits for its commit."""
    metrics = [item(step).to_json()["metrics"] for step in steps]
    rows = [{"generation": {"epoch": 1, "number": 1}, "metrics": row} for row in metrics]

    def post(number: int) -> None:
        batch = {"runUid": f"uid-{number}", "epoch": 1, "rows": rows}
        path = f"/v1/namespaces/bench/runs/run-{number}/telemetry"
        client.post(path, json=batch, headers=of_pod(f"uid-{number}", "bench")).raise_for_status()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(post, numbers))


class Neighbour(threading.Thread):
    """Asks for /healthz again and again until it is stopped; `longest` is in seconds."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self._stopped = address, threading.Event()
        self.longest = 0.0

    def run(self) -> None:
        with httpx.Client(base_url=self._address, timeout=60, headers=BEARER) as client:
            while not self._stopped.wait(0.05):
                started = time.perf_counter()
                client.get("/healthz").raise_for_status()
                self.longest = max(self.longest, time.perf_counter() - started)

    def __enter__(self) -> Neighbour:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self.join()


def scrape(client: httpx.Client, url: str, size: Size) -> list[float]:
    """Seconds of each scrape, once this replica exports."""
    training = [number for number in range(size.live) if trains(number, size)]
    deadline = time.monotonic() + EXPORTS_SECONDS
    while (shown := client.get("/metrics").text.count("footplate_run_step{")) != min(size.live, 1000):
        if time.monotonic() > deadline:
            raise SystemExit(f"{shown} runs have gauges, not {min(size.live, 1000)}")
        time.sleep(0.1)
    seconds = []
    for change in range(1, size.scrapes + 1):
        asyncio.run(store(url, [run(number, size, change) for number in training]))
        send(client, training, range(size.rows + change, size.rows + change + 1))
        started = time.perf_counter()
        client.get("/metrics").raise_for_status()
        seconds.append(time.perf_counter() - started)
    return seconds


def measure(size: Size, smoke: bool) -> dict[str, tuple[list[float], float]]:
    """By database: seconds of each scrape, and the longest that a neighbour waited."""
    found: dict[str, tuple[list[float], float]] = {}
    with tempfile.TemporaryDirectory() as name, databases(Path(name), smoke) as urls:
        for database, url in urls.items():
            with (
                api(Path(name), url) as address,
                httpx.Client(base_url=address, timeout=60, headers=BEARER) as client,
            ):
                asyncio.run(fill(url, size))
                send(client, range(size.live), range(1, size.rows + 1))
                asyncio.run(settle(url))
                with Neighbour(address) as neighbour:
                    seconds = scrape(client, url, size)
                found[database] = seconds, neighbour.longest
    return found


def main(argv: list[str] | None = None) -> int:
    """Prints a line a database; exit code 1 where one is slower than the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--live", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=50, help="steps of each live run")
    parser.add_argument("--scrapes", type=int, default=30)
    parser.add_argument("--smoke", action="store_true", help="little of all, on SQLite: seconds, and no bar")
    chosen = parser.parse_args(argv)
    size = Size(chosen.runs, chosen.live, chosen.rows, chosen.scrapes)
    size = Size(runs=200, live=20, rows=3, scrapes=3) if chosen.smoke else size
    print(f"{size.live:,} live of {size.runs:,} runs; bar {BAR * 1e3:.0f} ms at the median")
    slowest = 0.0
    for database, (seconds, waited) in measure(size, chosen.smoke).items():
        median = statistics.median(seconds)
        slowest = max(slowest, median)
        figures = (median, max(seconds), waited)
        said = "   ".join(
            f"{name} {value * 1e3:6.1f} ms"
            for name, value in zip(("median", "longest", "neighbour"), figures, strict=True)
        )
        print(f"{database:12} {said}")
    return 0 if chosen.smoke or slowest <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
