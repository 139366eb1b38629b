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
from pathlib import Path

from cluster.machine.ports import claim_ports

START_SECONDS = 60.0
# No API server answers there: the mirror waits, everything else works.
_KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def api(folder: Path, database_url: str) -> Iterator[str]:
    """The URL of an API on `database_url`; its files go to `folder`."""
    kubeconfig, [port] = folder / "kubeconfig", claim_ports(1)
    kubeconfig.write_text(_KUBECONFIG)
    program = [sys.executable, "-m", "footplate_api", "--log-level", "ERROR"]
    process = subprocess.Popen(
        [*program, "--port", str(port), "--kubeconfig", str(kubeconfig)],
        env={**os.environ, "FOOTPLATE_DATABASE_URL": database_url},
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + START_SECONDS
    try:
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the API did not start (exit code {process.poll()})")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def database(argument: str | None, folder: Path) -> str:
    """The URL that was asked for; by default a new SQLite file."""
    return argument or f"sqlite:///{folder}/footplate.db"
