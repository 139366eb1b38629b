"""A page of 100 out of 30,000 runs: MLflow's search and this API's list, on the same database.

Both have the same runs, with what is asked for as labels here and as tags there, and are asked the same
questions in turns, the newest runs first. Bar: ten times as fast, over the medians of all questions together.
MLflow comes from the package index into a virtual environment of its own (`peer.mlflow`); so no test runs
this benchmark.

    python -m bench.api.peer.search [--runs 30000] [--pages 15]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from bench.api.list_runs import LIMIT, fill, manifest
from bench.api.peer.mlflow import VERSION, tracking
from bench.api.serving import databases, process

from tests.support.review_server import BEARER

BAR: Final = 10.0
_TIMEOUT: Final = 300.0
_SENDERS: Final = 4
_NEWEST: Final = ["attributes.start_time DESC"]


@dataclass(frozen=True)
class Question:
    """The same for both: parameters of a list here, a filter there."""

    name: str
    ours: dict[str, Any]
    theirs: str


QUESTIONS: Final = (
    Question("all", {}, ""),
    Question("running", {"phase": "Running"}, "tags.phase = 'Running'"),
    Question("one of four profiles", {"profile": "profile-1"}, "tags.profile = 'profile-1'"),
    Question("a third", {"labelSelector": "team=t1"}, "tags.team = 't1'"),
    Question("one in a hundred", {"labelSelector": "tier=gold"}, "tags.tier = 'gold'"),
    Question("all but these", {"labelSelector": "tier!=gold"}, "tags.tier != 'gold'"),
    Question(
        "one in three hundred",
        {"labelSelector": "team=t1,tier=gold"},
        "tags.team = 't1' AND tags.tier = 'gold'",
    ),
    Question("one run", {"labelSelector": "job=j77"}, "tags.job = 'j77'"),
)


def tags(number: int) -> list[dict[str, str]]:
    """What MLflow has of the run that `list_runs.manifest` describes."""
    shown = manifest(number)
    known = {
        **shown["metadata"]["labels"],
        "namespace": shown["metadata"]["namespace"],
        "phase": shown["status"]["phase"],
        "stage": shown["spec"]["stage"],
        "profile": shown["spec"]["compute"]["profile"],
    }
    return [{"key": key, "value": value} for key, value in known.items()]


def fill_mlflow(url: str, runs: int) -> None:
    """Makes them through its REST."""
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:

        def make(number: int) -> None:
            asked = {"experiment_id": "0", "start_time": 60_000 * number, "tags": tags(number)}
            client.post("/api/2.0/mlflow/runs/create", json=asked).raise_for_status()

        with ThreadPoolExecutor(_SENDERS) as senders:
            list(senders.map(make, range(runs)))


def found_by_mlflow(client: httpx.Client, question: Question) -> list[str]:
    """The `job` of each run of its first page."""
    asked = {
        "experiment_ids": ["0"],
        "filter": question.theirs,
        "order_by": _NEWEST,
        "max_results": LIMIT,
    }
    answer = client.post("/api/2.0/mlflow/runs/search", json=asked)
    answer.raise_for_status()
    return [
        next(tag["value"] for tag in run["data"]["tags"] if tag["key"] == "job")
        for run in answer.json().get("runs", [])
    ]


def found_here(client: httpx.Client, question: Question) -> list[str]:
    """The same, of the first page of the list."""
    asked = {**question.ours, "includeDeleted": True, "sort": "-createdAt", "limit": LIMIT}
    answer = client.get("/v1/runs", params=asked)
    answer.raise_for_status()
    return [f"j{run['name'].removeprefix('run-')}" for run in answer.json()["items"]]


def measure(name: str, url: str, peer_url: str, folder: Path, runs: int, pages: int) -> bool:
    """Both sides in turns on one kind of database; whether the bar was reached."""
    print(f"-- {name}: {runs:,} runs, medians of {pages} pages of {LIMIT}, in turns; bar {BAR:.0f}")
    whole = [0.0, 0.0]
    with (
        process(folder, url) as (address, _),
        tracking(peer_url, folder) as server,
        httpx.Client(base_url=address, timeout=_TIMEOUT, headers=BEARER) as here,
        httpx.Client(base_url=server.url, timeout=_TIMEOUT) as there,
    ):
        asyncio.run(fill(url, runs))
        fill_mlflow(server.url, runs)
        for question in QUESTIONS:
            if (ours := found_here(here, question)) != (theirs := found_by_mlflow(there, question)):
                raise SystemExit(f"{question.name}: {ours[:5]} are found here, {theirs[:5]} by MLflow")
            medians = [
                statistics.median(seconds)
                for seconds in zip(*(turn(here, there, question) for _ in range(pages)), strict=True)
            ]
            whole = [before + more for before, more in zip(whole, medians, strict=True)]
            said = f"here {medians[0] * 1e3:7.1f} ms   MLflow {VERSION} {medians[1] * 1e3:8.1f} ms"
            print(f"{question.name:22} {said}   {medians[1] / medians[0]:6.1f}")
    print(f"{'together':22} {whole[1] / whole[0]:.1f} times as fast")
    return whole[1] >= BAR * whole[0]


def turn(here: httpx.Client, there: httpx.Client, question: Question) -> tuple[float, float]:
    """Seconds of a page of each."""
    marks = [time.perf_counter()]
    for ask, client in ((found_here, here), (found_by_mlflow, there)):
        ask(client, question)
        marks.append(time.perf_counter())
    first, second = (after - before for before, after in itertools.pairwise(marks))
    return first, second


def main() -> int:
    """Exit code 1 below the bar on either database."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--pages", type=int, default=15, help="of each question")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as ours,
        tempfile.TemporaryDirectory() as theirs,
        databases(Path(ours)) as urls,
        databases(Path(theirs)) as peers,
    ):
        reached = [
            measure(kind, url, peers[kind], Path(ours), asked.runs, asked.pages) for kind, url in urls.items()
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
