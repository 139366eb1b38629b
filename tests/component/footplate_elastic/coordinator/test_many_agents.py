"""A coordinator of three hundred agents on a processor that others take away from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from footplate_contracts.coordinator_state import RunState, Verdict
from tests.component.footplate_elastic.agent.gang import TOKEN, Gang

AGENTS: Final = 300
SECONDS: Final = 30.0
_PLAYED: Final = "tests.component.footplate_elastic.coordinator.played"
_BURN: Final = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(100_000))"


@contextmanager
def saturated(core: int, others: int) -> Iterator[None]:
    """So many `others` want all of `core`."""
    burners = [subprocess.Popen([sys.executable, "-c", _BURN, str(os.getpid())]) for _ in range(others)]
    for burner in burners:
        os.sched_setaffinity(burner.pid, {core})
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def waited(pid: int) -> float:
    """Seconds for which the process had work, and no processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


@pytest.mark.long
def test_a_coordinator_with_more_work_than_processor_declares_nobody_lost(tmp_path: Path) -> None:
    gang = Gang(tmp_path, nodes=AGENTS, local_world_size=1)
    command = [sys.executable, "-m", _PLAYED, str(gang.port), str(AGENTS), TOKEN]
    try:
        coordinator = gang.start_coordinator()
        gang.wait_for(lambda state: True)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agents:
            begun = gang.wait_for(lambda state: state.state is RunState.TRAINING, 240)
            core = min(os.sched_getaffinity(0))
            os.sched_setaffinity(coordinator.pid, {core})
            before, missed = waited(coordinator.pid), {}
            with saturated(core, others=12):
                deadline = time.monotonic() + SECONDS
                while time.monotonic() < deadline:
                    state = gang.state(wait=1.0)
                    for gone in state.missed if state else ():
                        missed[gone.agent.pod_name, gone.verdict] = gone.seconds
            late = waited(coordinator.pid) - before
            state = gang.wait_for(lambda state: state.progress.step > begun.progress.step)
            told, _ = agents.communicate()
        met = json.loads(told)
        print(f"{late:.0f} s without a processor, {met}")
        lost = [gone for gone in missed if gone[1] is not Verdict.SUSPECT]
        assert late > SECONDS / 4, "it had processor enough"
        assert not lost and not state.failures and state.generation == begun.generation
        assert met["starts"] == 1
    finally:
        gang.close()
