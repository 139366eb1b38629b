"""How many metric rows a second does the API store durably?

Coordinators send batches over HTTP; the same rows are then inserted into an empty
table by one bulk statement after the other, without HTTP, validation or the question
whether a row is newer: the ratio is the price of all that. Bar: 10,000 rows/s on two
cores, client included. A row holds five metrics.

    python -m bench.api.ingest [--rows 200000] [--senders 2] [--database-url URL]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from bench.api.serving import api, database

_FORMAT = argparse.RawDescriptionHelpFormatter
BAR = 10_000  # rows/s
BATCH = 5000  # rows, the most that a batch holds
TELEMETRY = "/v1/namespaces/bench/runs/run-{sender}/telemetry"


def row(step: int) -> dict[str, Any]:
    """One row as a coordinator sends it."""
    return {
        "generation": {"epoch": 1, "number": 1},
        "metrics": {
            "step": step,
            "time": 1_790_000_000.123 + step,
            "loss": 2.718281828459045 + step * 1e-9,
            "gradientNorm": 0.5772156649015329,
            "learningRate": 0.0006,
            "tokens": step * 524_288,
            "tokensPerSecond": 123_456.789,
            "sampleDigest": f"{step:016x}",
        },
    }


def batches(sender: int, rows: int) -> list[bytes]:
    """Bodies of all batches of one run, made before the clock starts."""
    return [
        json.dumps(
            {
                "runUid": f"uid-{sender}",
                "epoch": 1,
                "rows": [row(step) for step in range(start, start + BATCH)],
            }
        ).encode()
        for start in range(0, rows, BATCH)
    ]


async def send(url: str, sender: int, bodies: list[bytes]) -> None:
    """Sends batch after batch, each when the one before has its receipt."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for body in bodies:
            answer = await client.post(
                TELEMETRY.format(sender=sender), content=body, headers={"content-type": "application/json"}
            )
            answer.raise_for_status()


async def through_the_api(url: str, senders: int, rows: int) -> float:
    """Rows a second over HTTP."""
    bodies = [batches(sender, rows // senders) for sender in range(senders)]
    started = time.perf_counter()
    await asyncio.gather(*(send(url, sender, batches) for sender, batches in enumerate(bodies)))
    return sum(len(batches) for batches in bodies) * BATCH / (time.perf_counter() - started)


def raw(folder: Path, rows: int) -> float:
    """Rows a second by executemany into the same table of SQLite, durable like the API's."""
    with closing(sqlite3.connect(folder / "raw.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE step_metrics (run_uid TEXT, step INTEGER, epoch INTEGER, number INTEGER, time REAL,"
            " loss REAL, gradient_norm REAL, learning_rate REAL, tokens INTEGER, tokens_per_second REAL,"
            " sample_digest TEXT, PRIMARY KEY (run_uid, step)) WITHOUT ROWID"
        )
        values = [("uid", 1, 1, *row(step)["metrics"].values()) for step in range(rows)]
        started = time.perf_counter()
        for start in range(0, rows, BATCH):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO step_metrics (run_uid, epoch, number, step, time, loss, gradient_norm,"
                " learning_rate, tokens, tokens_per_second, sample_digest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values[start : start + BATCH],
            )
            connection.execute("COMMIT")
        return rows / (time.perf_counter() - started)


def main() -> int:
    """Prints both rates and their ratio; exit code 1 below the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--senders", type=int, default=2, help="runs that send at the same time")
    parser.add_argument("--database-url", help="default: a new SQLite file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with api(folder, database(arguments.database_url, folder)) as url:
            rate = asyncio.run(through_the_api(url, arguments.senders, arguments.rows))
        bulk = raw(folder, arguments.rows)
    print(f"through the API      {rate:10,.0f} rows/s   (bar {BAR:,}; {rate * 5:,.0f} metrics/s)")
    print(f"raw bulk insert      {bulk:10,.0f} rows/s   (SQLite)")
    print(f"ratio                {rate / bulk:10.3f}")
    return 0 if rate >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
