"""How far is the mirror behind the cluster, and who waits for it?

30,000 runs are in a cluster that this process plays; fifty of their statuses change every second, and in the
middle the watch expires, so that all are listed again. Meanwhile single runs are asked for until they show
what was written last, and pages are read. What is written while nobody watches comes with the new list alone:
each of those runs is asked for, wherever the list has it. Bars: two seconds behind, and no request later than
250 ms at the 99th percentile.

    python -m bench.api.mirror [--runs 30000] [--seconds 120] [--writes 50] [--database-url URL] [--smoke]
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import httpx
from bench.api.list_runs import LIMIT, manifest
from bench.api.percentiles import percentile
from bench.api.serving import database, process

from footplate_contracts.names import GROUP, VERSION
from tests.support.review_server import BEARER, Handler

BEHIND: Final = 2.0  # seconds
LATE: Final = 0.250
LOADED_SECONDS: Final = 600.0
_RUNS: Final = f"/apis/{GROUP}/{VERSION}/trainingruns"
_NAMESPACES: Final = "/api/v1/namespaces"
_MADE: Final = {"creationTimestamp": "2025-01-01T00:00:00Z"}


@dataclass
class Written:
    """A run has come to `step`, at `at` of the monotonic clock."""

    path: str  # of the run in the REST API
    step: int
    at: float


@dataclass
class World:
    """The runs of the cluster; a version is the number of writes so far."""

    runs: list[dict[str, Any]]
    version: int = 0
    events: list[tuple[int, bytes]] = field(default_factory=list)  # that a watch may still ask for
    watches: list[queue.Queue[bytes | None]] = field(default_factory=list)
    lists: int = 0  # that were begun
    newest: Written | None = None
    unwatched: list[Written] = field(default_factory=list)  # while nobody watched
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # An API server has them so, too.
        self.texts = [json.dumps(run).encode() for run in self.runs]
        self.metadata = [_metadata(run) for run in self.runs]
        self.numbers = {_path(run): number for number, run in enumerate(self.runs)}
        self.listed: dict[bool, list[bytes]] = {}  # as they were when the last list was begun; True: whole

    def write(self, number: int, step: int) -> None:
        """A run has come to `step`."""
        with self.lock:
            self.version += 1
            run = self.runs[number]
            run["status"]["progress"]["step"] = step
            run["metadata"]["resourceVersion"] = str(self.version)
            self.texts[number] = text = json.dumps(run).encode()
            self.metadata[number] = _metadata(run)
            event = b'{"type": "MODIFIED", "object": %b}\n' % text
            self.events.append((self.version, event))
            for watch in self.watches:
                watch.put(event)
            self.newest = Written(f"/v1/{_path(run)}", step, time.monotonic())
            if not self.watches:
                self.unwatched.append(self.newest)

    def expire(self) -> None:
        """Whoever watches has to list everything again."""
        with self.lock:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            for watch in self.watches:
                watch.put(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
                watch.put(None)
            self.watches.clear()
            self.events.clear()

    def page(self, token: str, most: int, whole: bool) -> bytes:
        """A part of the list; all parts are of one version, and what changes meanwhile is an event."""
        with self.lock:
            first, version = map(int, token.split("@")) if token else (0, self.version)
            if first == 0:
                self.lists += 1
                self.listed[whole] = [*(self.texts if whole else self.metadata)]
            more = {"continue": f"{first + most}@{version}"} if first + most < len(self.runs) else {}
            about = json.dumps({"resourceVersion": str(version), **more}).encode()
            items = b",".join(self.listed[whole][first : first + most])
            return b'{"metadata": %b, "items": [%b]}' % (about, items)

    def watch(self, version: int) -> queue.Queue[bytes | None]:
        """The events after `version`, each a line; None is the end."""
        with self.lock:
            watch = queue.Queue[bytes | None]()
            for written, event in self.events:
                if written > version:
                    watch.put(event)
            self.watches.append(watch)
            return watch


def _path(run: dict[str, Any]) -> str:
    return f"namespaces/{run['metadata']['namespace']}/runs/{run['metadata']['name']}"


def _metadata(run: dict[str, Any]) -> bytes:
    return json.dumps({"metadata": run["metadata"]}).encode()


class Cluster(Handler):
    """An API server with the runs of `world`, and with nothing of all else."""

    world: ClassVar[World]

    def do_GET(self) -> None:
        """A list, a watch, or a run."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        path = parts.path.removeprefix(f"/apis/{GROUP}/{VERSION}/").replace("/trainingruns/", "/runs/")
        number = self.world.numbers.get(path)
        if parts.path == f"{_NAMESPACES}/kube-system":
            self.send(200, {"metadata": {"name": "kube-system", "uid": "bench"}})
        elif "watch" in query:
            self._stream(parts.path == _RUNS, int(query["resourceVersion"]), float(query["timeoutSeconds"]))
        elif parts.path == _RUNS:
            whole = "PartialObjectMetadata" not in self.headers["Accept"]
            self.send(200, self.world.page(query.get("continue", ""), int(query["limit"]), whole))
        elif parts.path == _NAMESPACES:
            about = [{"name": f"team-{number}", "uid": f"t{number}"} for number in range(4)]
            items = [{"metadata": {**known, "resourceVersion": "1", **_MADE}} for known in about]
            self.send(200, {"metadata": {"resourceVersion": "1"}, "items": items})
        elif "limit" in query:
            self.send(200, {"metadata": {"resourceVersion": "1"}, "items": []})
        elif number is not None:
            self.send(200, self.world.texts[number])
        else:
            super().do_GET()

    def _stream(self, of_runs: bool, version: int, seconds: float) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        events = self.world.watch(version) if of_runs else queue.Queue[bytes | None]()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = events.get(timeout=left)
                if line is None:
                    return
                self.wfile.write(line)
            except (queue.Empty, OSError):
                return


@dataclass
class Seen:
    """Seconds that were seen."""

    behind: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)


def write(world: World, writes: int, until: float) -> int:
    """Changes statuses at this rate; how many were."""
    begun, count = time.monotonic(), 0
    while (now := time.monotonic()) < until:
        count += 1
        world.write(count * 7919 % len(world.runs), 1_000_000 + count)
        time.sleep(max(0.0, begun + count / writes - now))
    return count


def follow(url: str, until: float, world: World, seen: Seen) -> None:
    """Asks for what was written last until it is shown, and for all that nobody was told of."""
    waiting: list[Written] = []
    with httpx.Client(base_url=url, timeout=60, headers=BEARER) as client:
        while time.monotonic() < until or waiting:
            with world.lock:
                waiting += world.unwatched
                world.unwatched.clear()
                if not waiting and world.newest is not None:
                    waiting.append(world.newest)
            for written in waiting[:]:
                started = time.perf_counter()
                answer = client.get(written.path)
                seen.looks.append(time.perf_counter() - started)
                answer.raise_for_status()
                if answer.json()["status"]["progress"]["step"] >= written.step:
                    seen.behind.append(time.monotonic() - written.at)
                    waiting.remove(written)
            time.sleep(0.05)


def read(url: str, until: float, seen: Seen) -> None:
    """Pages of the runs of all namespaces."""
    with httpx.Client(base_url=url, timeout=60, headers=BEARER) as client:
        while time.monotonic() < until:
            started = time.perf_counter()
            client.get("/v1/runs", params={"limit": LIMIT}).raise_for_status()
            seen.pages.append(time.perf_counter() - started)
            time.sleep(0.05)


def loaded(url: str, runs: int) -> float:
    """Seconds until the newest run is there."""
    started = time.monotonic()
    last = manifest(runs - 1)["metadata"]
    path = f"/v1/namespaces/{last['namespace']}/runs/{last['name']}"
    with httpx.Client(base_url=url, timeout=60, headers=BEARER) as client:
        while client.get(path).status_code != 200:
            if time.monotonic() - started > LOADED_SECONDS:
                raise SystemExit(f"the mirror had not all runs after {LOADED_SECONDS:.0f} s")
            time.sleep(0.2)
    return time.monotonic() - started


def main() -> int:
    """Exit code 1 beyond a bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--writes", type=int, default=50, help="statuses a second")
    parser.add_argument("--database-url", help="default: a new SQLite file")
    parser.add_argument("--smoke", action="store_true", help="few runs, in seconds: shows that it runs")
    asked = parser.parse_args()
    if asked.smoke:
        asked.runs, asked.seconds = 200, 3.0
    Cluster.world = world = World([manifest(number) for number in range(asked.runs)], asked.runs)
    seen = Seen()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = database(asked.database_url, folder)
        with process(folder, url, Cluster) as (address, usage):
            first = loaded(address, asked.runs)
            before, own, begun = usage.cpu_seconds, time.process_time(), time.monotonic()
            until = begun + asked.seconds
            expiring = threading.Timer(asked.seconds / 2, world.expire)
            works = [
                expiring,
                threading.Thread(target=follow, args=(address, until, world, seen)),
                threading.Thread(target=read, args=(address, until, seen)),
            ]
            for work in works:
                work.start()
            writes = write(world, asked.writes, until)
            for work in works:
                work.join()
            elapsed = time.monotonic() - begun
            shares = (usage.cpu_seconds - before) / elapsed, (time.process_time() - own) / elapsed
    late = max(percentile(seen.pages), percentile(seen.looks))
    print(
        f"{asked.runs:,} runs, listed in {first:.1f} s, {world.lists} lists, {writes / elapsed:.0f} writes/s"
    )
    print(
        f"behind: median {statistics.median(seen.behind):.2f} s, longest {max(seen.behind):.2f} s"
        f" (bar {BEHIND:.0f} s)"
    )
    for title, seconds in (("pages", seen.pages), ("single runs", seen.looks)):
        median, high = statistics.median(seconds) * 1e3, percentile(seconds) * 1e3
        print(f"{title}: median {median:.0f} ms, p99 {high:.0f} ms (bar {LATE * 1e3:.0f} ms)")
    print(f"of a core: API {shares[0]:.2f}, this load {shares[1]:.2f}")
    return 0 if max(seen.behind) <= BEHIND and late <= LATE and world.lists > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
