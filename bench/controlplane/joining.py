"""Memory and CPU time of a coordinator whose agents all join at once, over TLS.

    python -m bench.controlplane.joining              1,024 agents
    python -m bench.controlplane.joining --smoke      16 of them

The coordinator is the program of its pod. One other process plays all agents, with the four connections that
each has while it joins. What is read is VmHWM and the CPU time of the coordinator's process, and the kernel's
memory for all TCP sockets of this machine, both ends of each connection included.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.machine.ports import claim_ports
from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import Env
from tests.support.certificates import any_credentials

BAR_MIB: Final = 512  # the limit of the pod
LONGEST: Final = 600.0  # seconds until all train
_PLAYED: Final = "tests.component.footplate_elastic.coordinator.played"
_PIPE: Final = subprocess.PIPE
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Seen:
    """Measurements of one start."""

    seconds: float  # from the first agent's start to the first step of all
    peak: int  # bytes, resident
    sockets: int  # bytes, of the kernel
    cpu_seconds: float
    retries: int  # questions of agents that were not answered in time


def measure(agents: int, directory: Path) -> Seen:
    """Start a coordinator and `agents` agents in `directory`."""
    [port] = claim_ports(1)
    environment = _prepared(agents, port, directory)
    trust = ssl.create_default_context(cafile=environment[Env.TLS_CERTIFICATE_FILE])
    token = (directory / "token").read_text()
    command = [sys.executable, "-m", "footplate_elastic.coordinator", "--bind", "127.0.0.1"]
    played = [sys.executable, "-m", _PLAYED, str(port), str(agents), token]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stderr=log) as ours,
    ):
        try:
            _wait_for_training(port, token, trust, ours.pid, started=False)
            idle, began = _sockets(), time.monotonic()
            cpu = _cpu_seconds(ours.pid)
            theirs = [*played, environment[Env.TLS_CERTIFICATE_FILE]]
            with subprocess.Popen(theirs, stdin=_PIPE, stdout=_PIPE, stderr=log) as clients:
                sockets = _wait_for_training(port, token, trust, ours.pid, started=True)
                seconds = time.monotonic() - began
                seen = _peak(ours.pid), sockets - idle, _cpu_seconds(ours.pid) - cpu
                told, _ = clients.communicate()
            return Seen(seconds, *seen, retries=json.loads(told)["unanswered"])
        finally:
            ours.kill()


def _prepared(agents: int, port: int, directory: Path) -> dict[str, str]:
    """The environment of a coordinator of `agents` agents, whose files are in `directory`."""
    credentials = any_credentials("localhost")
    outline = {
        "run": {"name": "bench", "namespace": "default", "uid": "uid-1"},
        "world": {"nodes": agents, "processesPerNode": 1},
        "training": {"steps": 100_000},
        "checkpoint": {"everySteps": 500, "keepLast": 3},
        "hang": {"factor": 3, "floorSeconds": 600},
    }
    files: dict[str, str | bytes] = {
        "run.json": json.dumps(outline),
        "token": credentials.token,
        "tls.crt": credentials.certificate,
        "tls.key": credentials.private_key,
    }
    for name, text in files.items():
        (directory / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return {
        **os.environ,
        Env.RUN_CONFIG: str(directory / "run.json"),
        Env.RUN_TOKEN_FILE: str(directory / "token"),
        Env.TLS_CERTIFICATE_FILE: str(directory / "tls.crt"),
        Env.TLS_KEY_FILE: str(directory / "tls.key"),
        Env.COORDINATOR_PORT: str(port),
        Env.COORDINATOR_EPOCH: "1",
    }


def _wait_for_training(port: int, token: str, trust: ssl.SSLContext, pid: int, started: bool) -> int:
    """Wait until the coordinator answers, or all have `started`; the most that sockets took meanwhile."""
    deadline, most = time.monotonic() + LONGEST, 0
    while time.monotonic() < deadline and _peak(pid):
        most = max(most, _sockets())
        with suppress(OSError, http.client.HTTPException):
            state = _state(port, token, trust)
            if not started or state.state is RunState.TRAINING:
                return most
        time.sleep(0.1)
    raise SystemExit(f"not within {LONGEST} s, or the coordinator has ended")


def _state(port: int, token: str, trust: ssl.SSLContext) -> CoordinatorState:
    connection = http.client.HTTPSConnection("localhost", port, timeout=30.0, context=trust)
    try:
        connection.request("GET", "/v1/state", headers={"Authorization": f"Bearer {token}"})
        return CoordinatorState.model_validate_json(connection.getresponse().read())
    finally:
        connection.close()


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _sockets() -> int:
    [line] = [line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP")]
    return int(line.rsplit(" ", 1)[1]) * _PAGE


def main() -> int:
    """Print what was measured; 1 where it is above the bar."""
    parser = argparse.ArgumentParser(prog="bench.controlplane.joining", description=__doc__)
    parser.add_argument("--agents", type=int, default=1024)
    parser.add_argument("--smoke", action="store_true", help="16 agents")
    arguments = parser.parse_args()
    agents = 16 if arguments.smoke else arguments.agents
    with tempfile.TemporaryDirectory() as directory:
        seen = measure(agents, Path(directory))
    peak, sockets = seen.peak / 2**20, seen.sockets / 2**20
    print(
        f"{agents} agents join at once: {peak:.0f} MiB resident at most (bar {BAR_MIB}), {sockets:.0f} MiB of"
        f" sockets at both ends, {seen.cpu_seconds:.1f} CPU s, {seen.seconds:.1f} s, {seen.retries} retries"
    )
    return 0 if peak <= BAR_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
