"""An agent looks for locked memory before it forks a rank where its run's profile requests RDMA."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.names import Cause, Env, ExitCode, Reason
from tests.component.footplate_elastic.agent.gang import Gang

# Root gets its capabilities back with each program, but for what the bounding set has lost.
LIMITED = """
import ctypes, os, resource, sys
PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
LOOK = """
import resource, sys, time
from pathlib import Path
from footplate_elastic.agent import rdma
locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
capabilities = rdma.effective_capabilities(rdma.STATUS.read_text())
refusal = rdma.find_rdma_obstacle("rdma/ib", locked, capabilities, Path(sys.argv[1]), time.time())
print("goes on" if refusal is None else refusal.message)
"""


class LimitedGang(Gang):
    """Agents that may lock 64 KiB, as a container runtime with an old default lets them."""

    def placed(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", LIMITED, str(64 << 10), *command[1:]], environment


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[LimitedGang]:
    made = LimitedGang(tmp_path)
    yield made
    made.close()


def test_a_node_without_locked_memory_is_refused_by_name(limited: LimitedGang) -> None:
    limited.warm = ["no_such_module"]  # and before it looks whether ranks can be started at all
    limited.extra = {str(Env.RDMA): "rdma/ib"}
    limited.start_coordinator()
    agent = limited.start_agent(0)
    assert agent.wait(60) == ExitCode.STALE
    [failed] = limited.wait_for(lambda state: bool(state.failures)).failures
    failure = failed.failure
    assert (failure.cause, failure.reason) == (Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED)
    for said in (failure.message, limited.log("agent-0-0")):
        assert "RLIMIT_MEMLOCK is 65536 bytes" in said and "LimitMEMLOCK=infinity" in said


def test_nobody_looks_where_the_profile_requests_no_rdma(limited: LimitedGang) -> None:
    limited.warm = ["no_such_module"]
    limited.start_coordinator()
    assert limited.start_agent(0).wait(60) == ExitCode.CONFIG
    [failed] = limited.wait_for(lambda state: bool(state.failures)).failures
    assert "no_such_module" in failed.failure.message


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        pytest.param(1 << 30, "goes on", id="1-GiB"),
        pytest.param(64 << 10, "RLIMIT_MEMLOCK is 65536 bytes", id="64-KiB"),
    ],
)
def test_the_limit_of_the_process_counts(tmp_path: Path, limit: int, says: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most not in (resource.RLIM_INFINITY, max(most, limit)):
        pytest.skip(f"this process may lock {most} bytes at most")
    (tmp_path / "uverbs0").touch()
    command = [sys.executable, "-c", LIMITED, str(limit), "-c", LOOK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert says in done.stdout
