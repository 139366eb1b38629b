"""How long does a page take out of 30,000 runs? Bar: 200 ms at the 99th percentile.

python -m bench.api.list_runs [--runs 30000] [--pages 60] [--database-url URL] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from bench.api.serving import api, database

from footplate_api.database import Database
from footplate_api.runs import record, repository
from footplate_api.runs.schemas import EXAMPLE
from footplate_api.settings import with_driver
from tests.support.reviewer import BEARER

_FORMAT = argparse.RawDescriptionHelpFormatter
BAR = 0.200  # seconds
LIMIT = 100
RUNS = "/v1/namespaces/bench/runs"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# Eight in ten are over and gone, a few train: a cluster after some months.
PHASES = ("Succeeded",) * 7 + ("Failed", "Running", "Suspended")
QUERIES: dict[str, dict[str, Any]] = {
    "live": {},
    "all": {"includeDeleted": True},
    "running": {"phase": "Running"},
    "failed, also deleted": {"phase": "Failed", "includeDeleted": True},
    "a rare stage": {"stage": "grpo", "includeDeleted": True},
    "stage and phase": {"stage": "sft", "phase": "Succeeded", "includeDeleted": True},
    "nothing matches": {"stage": "dpo", "phase": "Queued"},
}


def run(number: int) -> dict[str, Any]:
    """A row with a spec and a status of real size."""
    phase = PHASES[number % len(PHASES)]
    created = BEGIN + timedelta(minutes=number)
    attempts = [
        {"number": number, "message": "peer lost " * 20, "node": f"node-{number}"} for number in range(8)
    ]
    manifest = {
        "metadata": {
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "namespace": "bench",
            "name": f"run-{number}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": created.isoformat(),
        },
        "spec": {**dict(EXAMPLE["spec"]), "stage": ("pretrain", "sft", "grpo")[min(number % 50, 2)]},
        "status": {"phase": phase, "progress": {"step": number, "totalSteps": 40_000}, "attempts": attempts},
    }
    gone = created if phase in ("Succeeded", "Failed") else None
    return {**record.row(manifest, created), "deleted_at": gone}


async def fill(url: str, runs: int) -> None:
    """Puts `runs` rows into the migrated database."""
    opened = Database(with_driver(url))
    for start in range(0, runs, 1000):
        async with opened.write() as session:
            await repository.store(session, [run(number) for number in range(start, min(start + 1000, runs))])
    await opened.close()


def measure(client: httpx.Client, query: dict[str, Any], pages: int) -> tuple[list[float], int]:
    """Seconds of each page, following cursors and starting over at the end; rows of the first."""
    seconds, cursor, first = [], None, -1
    for _ in range(pages):
        parameters = {**query, "limit": LIMIT, **({"cursor": cursor} if cursor else {})}
        started = time.perf_counter()
        answer = client.get(RUNS, params=parameters)
        seconds.append(time.perf_counter() - started)
        answer.raise_for_status()
        first = len(answer.json()["items"]) if first < 0 else first
        cursor = answer.json()["nextCursor"]
    return seconds, first


def main() -> int:
    """Prints a line a query; exit code 1 if one is slower than the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--pages", type=int, default=60, help="pages a query")
    parser.add_argument("--database-url", help="default: a new SQLite file")
    parser.add_argument("--smoke", action="store_true", help="few runs, in seconds: shows that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.runs, arguments.pages = 300, 3
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = database(arguments.database_url, folder)
        with (
            api(folder, url) as address,
            httpx.Client(base_url=address, timeout=60, headers=BEARER) as client,
        ):
            asyncio.run(fill(url, arguments.runs))
            print(f"{arguments.runs:,} runs, pages of {LIMIT}; bar {BAR * 1e3:.0f} ms")
            for title, query in QUERIES.items():
                seconds, rows = measure(client, query, arguments.pages)
                high = statistics.quantiles(seconds, n=100)[98]
                slowest = max(slowest, high)
                median = statistics.median(seconds)
                print(f"{title:22} median {median * 1e3:7.1f} ms   p99 {high * 1e3:7.1f} ms   {rows:4} rows")
    return 0 if slowest <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
