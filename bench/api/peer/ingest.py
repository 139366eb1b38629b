"""The same points into MLflow's tracking server and into the API, one after the other, on the same database.

Each side has as many runs, rows and senders, and the largest batches that it takes: a thousand points at
MLflow, a thousand rows of fifteen points here. Bar: ten times as fast. MLflow comes from the package index
into a virtual environment of its own under ~/.cache/footplate, once; so no test runs this benchmark.

    python -m bench.api.peer.ingest [--runs 8] [--rows 2000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from bench.api.list_runs import POINTS, row
from bench.api.peer.mlflow import VERSION, TrackingServer, tracking
from bench.api.serving import Usage, databases, process

from tests.support.review_server import of_pod

BAR: Final = 10.0
BATCH: Final = 1000  # of points there, of rows here: the most that either takes
_TIMEOUT: Final = 300.0


@dataclass(frozen=True)
class Load:
    """What both sides are sent."""

    runs: int
    rows: int

    @property
    def points(self) -> int:
        """Of all runs."""
        return self.runs * self.rows * POINTS


def into_mlflow(server: TrackingServer, load: Load) -> float:
    """Seconds until all points are stored."""
    with httpx.Client(base_url=server.url, timeout=_TIMEOUT) as client:
        runs = [server.new_run(client) for _ in range(load.runs)]
        metrics = [
            {"key": name, "value": value, "timestamp": round(measured["time"] * 1000), "step": step}
            for step in range(1, load.rows + 1)
            for measured in [numbers(step)]
            for name, value in measured.items()
        ]
        batches = [metrics[first : first + BATCH] for first in range(0, len(metrics), BATCH)]

        def send(run: str) -> None:
            for batch in batches:
                answer = client.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run, "metrics": batch})
                answer.raise_for_status()

        return taken(send, runs)


def numbers(step: int) -> dict[str, float]:
    """The fifteen points of a row as MLflow has them: names and numbers."""
    measured = dict(row(step)["metrics"])
    del measured["step"]
    digest = int(measured.pop("sampleDigest"), 16)
    found = {name: float(value) for name, value in measured.items()} | {"sampleDigest": float(digest)}
    return found | {f"further{place}": float(step) for place in range(POINTS - len(found))}


def into_footplate(url: str, load: Load, round_: int) -> float:
    """Seconds until all points are stored."""
    rows = [row(step) for step in range(1, load.rows + 1)]
    batches = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:

        def send(name: str) -> None:
            uid = f"uid-{name}"
            for batch in batches:
                answer = client.post(
                    f"/v1/namespaces/peer/runs/{name}/telemetry",
                    json={"runUid": uid, "epoch": 1, "rows": batch},
                    headers=of_pod(uid, "peer"),
                )
                answer.raise_for_status()

        return taken(send, [f"sender-{round_}-{number}" for number in range(load.runs)])


def taken(send: Callable[[str], Any], runs: list[str]) -> float:
    """Seconds that all runs together take, each with a sender of its own."""
    started = time.perf_counter()
    with ThreadPoolExecutor(len(runs)) as senders:
        list(senders.map(send, runs))
    return time.perf_counter() - started


def measure(name: str, url: str, peer_url: str, folder: Path, load: Load, rounds: int) -> bool:
    """Both sides in turns on one kind of database; whether the bar was reached."""
    ours, theirs = [], []
    own = time.process_time()
    started = time.perf_counter()
    with process(folder, url) as (address, usage), tracking(peer_url, folder) as server:
        peer = Usage(server.pid)
        for turn in range(rounds):
            theirs.append(into_mlflow(server, load))
            ours.append(into_footplate(address, load, turn))
        elapsed = time.perf_counter() - started
        shares = [used / elapsed for used in (usage.cpu_seconds, peer.cpu_seconds)]
    own_share = (time.process_time() - own) / elapsed
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"-- {name}: {load.points:,} points of {load.runs} runs, {rounds} rounds, in turns")
    print(f"MLflow {VERSION}   {load.points / statistics.median(theirs):10,.0f} points/s")
    print(f"footplate-api   {load.points / statistics.median(ours):10,.0f} points/s")
    print(f"ratio           {ratio:10.1f}   (bar {BAR:.0f})")
    print(f"of a core: API {shares[0]:.2f}, MLflow {shares[1]:.2f}, this load {own_share:.2f}")
    return ratio >= BAR


def main() -> int:
    """Exit code 1 below the bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rows", type=int, default=2000, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    load = Load(asked.runs, asked.rows)
    with (
        tempfile.TemporaryDirectory() as ours,
        tempfile.TemporaryDirectory() as theirs,
        databases(Path(ours)) as urls,
        databases(Path(theirs)) as peers,
    ):
        folder = Path(ours)
        reached = [
            measure(kind, urls[kind], peers[kind], folder, load, asked.rounds)
            for kind in ("SQLite", "PostgreSQL")
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
