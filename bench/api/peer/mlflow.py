"""MLflow's tracking server as a process of its own, from a virtual environment of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from bench.posttraining.packages import interpreter_with

from cluster.machine.ports import claim_ports

VERSION: Final = "3.17.2"
_START_SECONDS: Final = 180.0


@dataclass(frozen=True)
class TrackingServer:
    """One that answers."""

    url: str
    pid: int  # of the process that works, not of the one that began it

    def new_run(self, client: httpx.Client) -> str:
        """The id of a run of the default experiment."""
        answer = client.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0"})
        answer.raise_for_status()
        return str(answer.json()["run"]["info"]["run_id"])


def program() -> Path:
    """MLflow's own, installed where it is not yet."""
    return interpreter_with("mlflow", VERSION, "psycopg[binary]==3.3.9").with_name("mlflow")


@contextmanager
def tracking(database_url: str, folder: Path) -> Iterator[TrackingServer]:
    """One on `database_url`, with one worker as the API has one process."""
    [port] = claim_ports(1)
    url = f"http://127.0.0.1:{port}"
    where = ["--host", "127.0.0.1", "--port", str(port), "--default-artifact-root", folder / "artifacts"]
    started = subprocess.Popen(
        [program(), "server", "--backend-store-uri", database_url, "--workers", "1", *where],
        env={**os.environ, "MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "mlflow.log").open("ab"),
        start_new_session=True,
    )
    try:
        _wait(started, url, folder)
        yield TrackingServer(url, _worker(started.pid))
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGTERM)
        started.wait()


def _wait(started: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if started.poll() is not None or time.monotonic() > deadline:
                said = (folder / "mlflow.log").read_text()[-2000:]
                raise SystemExit(f"MLflow did not start (exit code {started.poll()}): {said}") from None
            time.sleep(0.2)


def _worker(pid: int) -> int:
    """The last of the chain of processes that MLflow begins: the one that serves."""
    while True:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return pid
        pid = max(map(int, children), key=_memory)


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
