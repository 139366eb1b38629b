"""How long does a page take out of 30,000 runs? Bar: 200 ms at the 99th percentile.

Every filter with every order and every kind of label selector, within one namespace and over all of them,
while coordinators send 5,000 points a second.

python -m bench.api.list_runs [--runs 30000] [--pages 8] [--points 5000] [--database-url URL] [--smoke]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from bench.api.percentiles import percentile
from bench.api.serving import api, database
from sqlalchemy import text

from footplate_api.db.database import Database
from footplate_api.registry import repository, run_rows
from footplate_api.runs.schemas import EXAMPLE
from footplate_api.runs.sort_order import RunSort
from footplate_api.settings import with_driver
from tests.support.review_server import BEARER, of_pod

BAR: Final = 0.200  # seconds
LIMIT: Final = 100
POINTS: Final = 15  # a row
_BEAT: Final = 0.1  # seconds between two batches
_BEGUN: Final = time.time() - 1_000_000  # rows that are months old would be thinned at once
BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Eight in ten are over and gone, a few train: a cluster after some months.
PHASES: Final = ("Succeeded",) * 7 + ("Failed", "Running", "Suspended")
SCOPES: Final = {"one": "/v1/namespaces/team-1/runs", "all": "/v1/runs"}
FILTERS: Final[dict[str, dict[str, Any]]] = {
    "live": {},
    "all": {"includeDeleted": True},
    "running": {"phase": "Running"},
    "failed, also deleted": {"phase": "Failed", "includeDeleted": True},
    "a rare stage": {"stage": "grpo", "includeDeleted": True},
    "one of four profiles": {"profile": "profile-1", "includeDeleted": True},
    "of a day": {"createdFrom": "2026-01-05T00:00:00Z", "createdTo": "2026-01-06T00:00:00Z"},
    "ended in an hour": {
        "endedFrom": "2026-01-05T00:00:00Z",
        "endedTo": "2026-01-05T01:00:00Z",
        "includeDeleted": True,
    },
    "nothing matches": {"stage": "dpo", "phase": "Queued"},
}
LABELS: Final[dict[str, str | None]] = {
    "no labels": None,
    "a third": "team=t1",
    "one in a hundred": "tier=gold",
    "one run": "job=j77",
    "several": "team in (t1,t2),tier!=gold,!legacy",
    "two that never meet": "team=t1,half=b",
    "none has it": "team=t9",
    "all lack it": "!legacy",
}


def manifest(number: int) -> dict[str, Any]:
    """A run with a spec and a status of real size."""
    phase = PHASES[number % len(PHASES)]
    created = BEGIN + timedelta(minutes=number)
    attempts = [
        {"number": number, "message": "peer lost " * 20, "node": f"node-{number}"} for number in range(8)
    ]
    over = {"completionTime": (created + timedelta(hours=5)).isoformat()} if phase in PHASES[6:8] else {}
    return {
        "metadata": {
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "namespace": f"team-{number % 7 % 4}",
            "name": f"run-{number}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": created.isoformat(),
            "labels": {
                "team": f"t{number % 3}",
                "half": "ab"[number % 3 == 0],
                "tier": "gold" if number % 100 == 0 else "iron",
                "job": f"j{number}",
            },
        },
        "spec": {
            **dict(EXAMPLE["spec"]),
            "stage": ("pretrain", "sft", "grpo")[min(number % 50, 2)],
            "compute": {"profile": f"profile-{number % 4}", "nodes": 2},
        },
        "status": {
            "phase": phase,
            "progress": {"step": number, "totalSteps": 40_000},
            "attempts": attempts,
            **over,
        },
    }


def run(number: int) -> dict[str, Any]:
    """Its row; of those that are over the run is gone."""
    shown = manifest(number)
    created = BEGIN + timedelta(minutes=number)
    gone = created if shown["status"]["phase"] in ("Succeeded", "Failed") else None
    return {**run_rows.row(shown, created), "deleted_at": gone}


async def fill(url: str, runs: int) -> None:
    """Puts `runs` rows into the migrated database, which is then as one is that has stood for a while."""
    opened = Database(with_driver(url))
    for start in range(0, runs, 1000):
        async with opened.write(60) as session:
            await repository.store_runs(
                session, [run(number) for number in range(start, min(start + 1000, runs))]
            )
    if opened.engine.dialect.name == "postgresql":
        async with opened.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM ANALYZE"))  # as its autovacuum does
    await opened.close()


class Ingest(threading.Thread):
    """Coordinators of ten runs that send rows meanwhile, of all `points` a second."""

    def __init__(self, address: str, points: int) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._rows = points // POINTS
        self._stopped = threading.Event()
        self.sent = 0

    def run(self) -> None:
        """Ten batches a second."""
        with httpx.Client(base_url=self._address, timeout=60) as client:
            begun = time.monotonic()
            for beat in itertools.count():
                if self._stopped.wait(max(0.0, begun + beat * _BEAT - time.monotonic())):
                    return
                self._send(client, f"sender-{beat % 10}", beat)

    def _send(self, client: httpx.Client, name: str, beat: int) -> None:
        count = max(1, self._rows // 10)
        rows = [row(beat * count + number) for number in range(1, count + 1)]
        uid = f"uid-{name}"
        answer = client.post(
            f"/v1/namespaces/team-1/runs/{name}/telemetry",
            json={"runUid": uid, "epoch": 1, "rows": rows},
            headers=of_pod(uid, "team-1"),
        )
        self.sent += count if answer.is_success else 0

    def stop(self) -> None:
        """Returns once the last batch was answered."""
        self._stopped.set()
        self.join()


def row(step: int) -> dict[str, Any]:
    """A row of fifteen points."""
    seconds = ("stepSeconds", "dataSeconds", "computeSeconds", "communicationSeconds", "optimizerSeconds")
    metrics = {
        "step": step,
        "time": _BEGUN + step,
        "loss": 2.718281828459045 + step * 1e-9,
        "gradientNorm": 0.5772156649,
        "learningRate": 0.0006,
        "tokens": step * 524_288,
        "tokensPerSecond": 123_456.789,
        "sampleDigest": f"{step:016x}",
        "mfu": 0.4123,
        "mfuCausal": 0.3912,
        "memoryBytes": 68_719_476_736,
        **dict.fromkeys(seconds, 0.8765 + step * 1e-9),
    }
    return {"generation": {"epoch": 1, "number": 1}, "metrics": metrics}


def measure(client: httpx.Client, path: str, query: dict[str, Any], pages: int) -> list[float]:
    """Seconds of each page, following cursors and starting over at the end."""
    seconds, cursor = [], None
    for _ in range(pages):
        parameters = {**query, "limit": LIMIT, **({"cursor": cursor} if cursor else {})}
        started = time.perf_counter()
        answer = client.get(path, params=parameters)
        seconds.append(time.perf_counter() - started)
        answer.raise_for_status()
        cursor = answer.json()["nextCursor"]
    return seconds


def all_of(
    client: httpx.Client, pages: int, sorts: Iterable[RunSort], labels: Mapping[str, str | None]
) -> dict[tuple[str, str], dict[str, list[float]]]:
    """Seconds of the pages of each list: by scope and filter, and there by order and labels."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(dict)
    for (scope, path), (title, query) in itertools.product(SCOPES.items(), FILTERS.items()):
        for sort, (labelled, selector) in itertools.product(sorts, labels.items()):
            asked = {**query, "sort": sort.value, **({"labelSelector": selector} if selector else {})}
            found[scope, title][f"{sort.value}, {labelled}"] = measure(client, path, asked, pages)
    return found


def main() -> int:
    """Prints a line a filter; exit code 1 if the pages of one are slower than the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--pages", type=int, default=8, help="pages of each list")
    parser.add_argument("--points", type=int, default=5000, help="a second that are stored meanwhile")
    parser.add_argument("--database-url", help="default: a new SQLite file")
    parser.add_argument("--smoke", action="store_true", help="few runs, in seconds: shows that it runs")
    arguments = parser.parse_args()
    sorts, labels = tuple(RunSort), LABELS
    if arguments.smoke:
        sorts, labels = sorts[-1:], dict(list(LABELS.items())[:3])
        arguments.runs, arguments.pages, arguments.points = 300, 1, 150
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = database(arguments.database_url, folder)
        with (
            api(folder, url) as address,
            httpx.Client(base_url=address, timeout=60, headers=BEARER) as client,
        ):
            asyncio.run(fill(url, arguments.runs))
            ingest = Ingest(address, arguments.points)
            ingest.start()
            started = time.perf_counter()
            found = all_of(client, arguments.pages, sorts, labels)
            ingest.stop()
            rate = ingest.sent * POINTS / (time.perf_counter() - started)
    print(
        f"{arguments.runs:,} runs, pages of {LIMIT}, {rate:,.0f} points/s meanwhile; bar {BAR * 1e3:.0f} ms"
    )
    return report(found)


def report(found: dict[tuple[str, str], dict[str, list[float]]]) -> int:
    """Prints a line a scope and filter; 1 if one is above the bar."""
    worst = 0.0
    for (scope, title), lists in found.items():
        every = [seconds for pages in lists.values() for seconds in pages]
        slowest, pages = max(lists.items(), key=lambda item: max(item[1]))
        high, median = percentile(every), statistics.median(every)
        worst = max(worst, high)
        line = f"{scope:3} {title:22} median {median * 1e3:6.1f} ms   p99 {high * 1e3:6.1f} ms"
        print(f"{line}   longest {max(pages) * 1e3:6.1f} ms ({slowest})")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
