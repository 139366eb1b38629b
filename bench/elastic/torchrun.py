"""The same gang under stock torchrun: two agents with two ranks each, c10d rendezvous, on loopback.

torchrun starts every rank anew after a failure, with its imports, and misses an agent that was killed after
three intervals of 5 s. The agent that is killed here is not the host of the rendezvous store: without that
one stock torchrun does not recover at all. With default settings it does not here either (torch 2.15): a
survivor that has rank 0 already never tells a new agent where its store is, so stores are not shared.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster.machine.ports import claim_ports
from tests.support.tiny import pack_tiny, tiny_manifest

RESTARTS = 1000
RECOVERS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
PATIENCE = 120.0  # seconds until a recovery is given up


class StockGang:
    """The tiny run of `steps` steps, a checkpoint every 50, under two torchrun agents."""

    def __init__(self, folder: Path, steps: int) -> None:
        folder.mkdir()
        self._folder = folder
        manifest = tiny_manifest(pack_tiny(folder), folder / "checkpoints")
        manifest["spec"]["training"]["steps"] = steps
        manifest["spec"]["checkpoint"]["everySteps"] = 50
        (folder / "run.json").write_text(json.dumps(manifest))
        [self._port] = claim_ports(1)
        self._starts = 0
        self.agents = [self._start(0), self._start(1)]
        self._wait_for_rows(after=0.0)

    def kill_rank(self) -> float:
        """SIGKILL the last rank of agent 1; seconds until a step is finished again."""
        self._settle()
        fault = time.time()
        os.kill(_children(self.agents[1].pid)[-1], signal.SIGKILL)
        return self._wait_for_rows(after=fault) - fault

    def kill_agent(self) -> float:
        """SIGKILL agent 1 and its ranks, as the end of a pod does, and start another one in the same moment.

        Seconds until a step is finished again.
        """
        self._settle()
        agent, fault = self.agents[1], time.time()
        _kill([agent.pid, *_children(agent.pid)])
        agent.wait()
        self.agents[1] = self._start(1)
        return self._wait_for_rows(after=fault) - fault

    def close(self) -> None:
        """End all of it."""
        for agent in self.agents:
            _kill([agent.pid, *_children(agent.pid)])
            agent.wait()

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        self._starts += 1
        log = (self._folder / f"agent-{self._starts}").open("wb")
        return subprocess.Popen(
            [
                *(f"{Path(sys.executable).parent}/torchrun", "--nnodes", "2", "--nproc-per-node", "2"),
                *("--rdzv-backend", "c10d", "--rdzv-id", "bench", "--max-restarts", str(RESTARTS)),
                *("--rdzv-endpoint", f"127.0.0.1:{self._port}", "--local-addr", "127.0.0.1"),
                *("--rdzv-conf", f"is_host={int(index == 0)}", "-m", "footplate_trainer", "train"),
                *(str(self._folder / "run.json"), "--metrics", str(self._folder / "metrics.jsonl")),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **RECOVERS},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def _settle(self) -> None:
        """Wait for two seconds of steps."""
        began = time.time()
        self._wait_for_rows(after=began + 2.0)

    def _wait_for_rows(self, after: float) -> float:
        """The time of the first row that was written later than `after`, in Unix seconds."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                for line in (self._folder / "metrics.jsonl").read_text().splitlines():
                    row = _row(line)
                    if row is not None and row["time"] > after:
                        return float(row["time"])
            time.sleep(0.05)
        raise TimeoutError(f"no step within {PATIENCE:.0f} s under torchrun; its logs are in {self._folder}")


def _row(line: str) -> dict[str, float] | None:
    """One row; None of a line that is not whole yet."""
    try:
        found: dict[str, float] = json.loads(line)
    except ValueError:
        return None
    return found


def _children(pid: int) -> list[int]:
    """The child processes of `pid`, oldest first."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return sorted(map(int, found))


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
