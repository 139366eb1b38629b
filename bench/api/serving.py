"""The API as a process of its own on a fresh database, for the benchmarks beside this file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.machine.ports import claim_ports
from tests.component.footplate_api.postgres import server
from tests.support.review_server import HASTE_VARIABLES, Handler, reviewing

START_SECONDS = 60.0


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass(frozen=True)
class Usage:
    """What a process takes of the machine."""

    pid: int

    @property
    def cpu_seconds(self) -> float:
        """Since it began."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def megabytes(self) -> float:
        """Resident now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@contextmanager
def api(folder: Path, database_url: str) -> Iterator[str]:
    """The URL of an API on `database_url`; its files go to `folder`."""
    with process(folder, database_url) as (url, _):
        yield url


@contextmanager
def process(folder: Path, database_url: str, handler: type[Handler] = Handler) -> Iterator[tuple[str, Usage]]:
    """The URL of such an API, and what its process takes.

    Its API server is `handler`, which by itself answers reviews and nothing else: the mirror waits,
    everything else works.
    """
    with reviewing(folder, handler) as kubeconfig, _started(kubeconfig, database_url) as (url, usage):
        yield url, usage


@contextmanager
def _started(kubeconfig: Path, database_url: str) -> Iterator[tuple[str, Usage]]:
    [port] = claim_ports(1)
    program = [sys.executable, "-m", "footplate_api", "--log-level", "ERROR"]
    started = subprocess.Popen(
        [*program, "--port", str(port), "--kubeconfig", str(kubeconfig)],
        env={**os.environ, **HASTE_VARIABLES, "FOOTPLATE_DATABASE_URL": database_url},
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    try:
        while not _ready(url):
            if started.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the API did not start (exit code {started.poll()})")
            time.sleep(0.05)
        yield url, Usage(started.pid)
    finally:
        started.terminate()
        started.wait()


def database(argument: str | None, folder: Path) -> str:
    """The URL that was asked for; by default a new SQLite file."""
    return argument or f"sqlite:///{folder}/footplate.db"


@contextmanager
def databases(folder: Path, smoke: bool = False) -> Iterator[dict[str, str]]:
    """The URLs of empty ones that keep what they are told, by name; a file alone to show that it runs."""
    if smoke:
        yield {"SQLite": f"sqlite:///{folder}/footplate.db"}
        return
    with server(durable=True) as postgres:
        yield {"SQLite": f"sqlite:///{folder}/footplate.db", "PostgreSQL": postgres.empty()}
