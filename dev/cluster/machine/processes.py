"""Starts the cluster's long-running programs so that they outlive the command that starts them,
and finds each of them again.

A program is put into its control group by itself, before it becomes the program: however early
we are killed, the group knows it (``cgroups.kill_all``), and nothing is ever ended by its name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.errors import NotReady
from cluster.machine import cgroups
from cluster.machine.records import Record, Records, alive, observed_start_time
from cluster.paths import Layout

# Kubernetes' own programs, which are written in Go: they collect garbage less often while they are small,
# which saves a third of their CPU time.
GO: Final[Mapping[str, str]] = {"GOGC": "400", "GOMEMLIMIT": "512MiB"}
# Helm and kubectl end before there is much to collect: a fifth of their CPU time.
BRIEF_GO: Final[Mapping[str, str]] = {**GO, "GOGC": "off"}

# $1: the group's cgroup.procs; the rest: the program. exec keeps the pid.
_ENTER_GROUP = 'echo $$ > "$1" && shift && exec "$@"'


@dataclass(frozen=True)
class Service:
    """A program that should be running."""

    name: str
    argv: tuple[str, ...]
    group: str | None  # of cgroups.create; None where the backend needs no root
    network: str | None = None  # a network namespace; None: the machine's own
    env: Mapping[str, str] = field(default_factory=dict)


def command(service: Service) -> list[str]:
    """The command line that starts ``service`` in its group and network namespace."""
    if service.group is None:
        return list(service.argv)
    procs = str(cgroups.system_procs(service.group))
    # nsenter, not `ip netns exec`, which remounts /sys and so hides the cgroup tree.
    enter = ["nsenter", f"--net=/run/netns/{service.network}"] if service.network else []
    return ["sh", "-c", _ENTER_GROUP, "sh", procs, *enter, *service.argv]


class Supervisor:
    """Starts, finds and ends services by their records."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._records = Records(layout.records)

    def log(self, name: str) -> Path:
        return self._layout.logs / f"{name}.log"

    def running(self, name: str) -> bool:
        return self.pid(name) is not None

    def pid(self, name: str) -> int | None:
        """Of the service, while it runs."""
        record = self._records.get(name)
        return record.pid if record is not None and alive(record) else None

    def ensure(self, service: Service) -> bool:
        """Starts the service unless it runs; returns whether it was started."""
        if self.running(service.name):
            return False
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        with self.log(service.name).open("ab") as output:
            process = subprocess.Popen(
                command(service),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**GO, **os.environ, **service.env},
                cwd="/",
                start_new_session=True,  # survives this command and its terminal
            )
        started = observed_start_time(process.pid)
        if started is None:
            raise NotReady(f"{service.name} ended at once: see {self.log(service.name)}")
        self._records.save(Record(service.name, process.pid, started, service.argv))
        return True

    def check(self, name: str) -> None:
        """Raises NotReady when the service has ended, with the end of its log."""
        if not self.running(name):
            lines = self.log(name).read_text(errors="replace").splitlines()[-8:]
            shown = "\n".join(f"    {line[:300]}" for line in lines)
            raise NotReady(f"{name} ended; the end of {self.log(name)}:\n{shown}")

    def stop(self, name: str, seconds: float = 5.0) -> None:
        """Ends the service for good."""
        self.end(name, seconds)
        self._records.forget(name)

    def end(self, name: str, seconds: float = 5.0) -> None:
        """Ends the service, politely at first, then not; it still counts as wanted."""
        record = self._records.get(name)
        if record is not None and alive(record):
            os.kill(record.pid, signal.SIGTERM)
            deadline = time.monotonic() + seconds
            while alive(record) and time.monotonic() < deadline:
                time.sleep(0.02)
            if alive(record):
                os.kill(record.pid, signal.SIGKILL)

    def names(self) -> list[str]:
        return [record.name for record in self._records.all()]
