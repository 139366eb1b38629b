"""A real Prometheus on loopback, and its promtool: the distribution's, as `make prometheus` unpacks it.

with prometheus.server(folder, scrape_configs) as running:
    running.query("footplate_run_step")
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import yaml

from cluster import paths
from cluster.machine.ports import claim_ports

Json = dict[str, Any]
START_SECONDS: Final = 30.0


def program(name: str = "prometheus") -> Path:
    """`prometheus` or `promtool`."""
    found = sorted(paths.cache_root().glob(f"prometheus-*/usr/bin/{name}"))
    if not found:
        raise FileNotFoundError(f"no {name} in {paths.cache_root()}: `make prometheus` unpacks it")
    return found[-1]


@dataclass(frozen=True)
class Series:
    """A sample of an answer."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Server:
    """One that runs."""

    url: str
    pid: int

    def query(self, expression: str) -> list[Series]:
        """What `expression` is now."""
        found = self.get("query", query=expression)["result"]
        return [Series(dict(sample["metric"]), float(sample["value"][1])) for sample in found]

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer to /api/v1/`path`; an error carries what it said."""
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30
            ) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{parameters}: {refused.read().decode()}") from None

    def targets(self) -> list[Json]:
        """What it scrapes, with the health of each and its last error."""
        active: list[Json] = self.get("targets", state="active")["activeTargets"]
        return active

    def wait(self, expression: str, seconds: float = 60.0) -> list[Series]:
        """The first answer that is not empty."""
        deadline = time.monotonic() + seconds
        while not (found := self.query(expression)):
            said = [
                (target["labels"]["job"], target["health"], target["lastError"]) for target in self.targets()
            ]
            assert time.monotonic() < deadline, f"{expression} stays empty; targets: {said}"
            time.sleep(0.1)
        return found


@contextmanager
def server(
    folder: Path,
    scrape_configs: Sequence[Json],
    rules: Sequence[Path] = (),
    interval: str = "1s",
    *,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """One that scrapes so, and evaluates `rules`, each `interval`; it has what is in `folder`/tsdb already.

    `options` are further ones of its command line, `environment` further variables.
    """
    [port] = claim_ports(1)
    said = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": list(scrape_configs),
        "rule_files": [str(path) for path in rules],
    }
    configuration = folder / "prometheus.yaml"
    configuration.write_text(yaml.safe_dump(said, sort_keys=False))
    log = folder / "prometheus.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                program(),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    try:
        running = Server(f"http://127.0.0.1:{port}", process.pid)
        _wait_ready(running, process, log)
        yield running
    finally:
        process.send_signal(signal.SIGKILL)  # nobody reads its data again
        process.wait()


def _wait_ready(running: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            with urllib.request.urlopen(f"{running.url}/-/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
