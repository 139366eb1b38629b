"""Questions to ranks that train, and the end of ranks that hang."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.names import Cause
from tests.component.footplate_elastic.agent.gang import Gang
from tests.support.tiny import tiny_config


def diagnose(gang: Gang, *arguments: str) -> str:
    """The command line, as in the coordinator's pod."""
    program = [sys.executable, "-m", "footplate_trainer", "diagnose", *arguments]
    ran = subprocess.run(program, env=gang.environment(), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def eventually(condition: Callable[[], bool], gang: Gang, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, gang.logs()
        time.sleep(0.05)


@pytest.mark.long
def test_ranks_answer_while_they_train_and_when_they_hang_show_stacks_and_start_again(
    gang: Gang, shards: Path, tmp_path: Path
) -> None:
    gang.nodes = 1
    gang.use_trainer(tiny_config(shards, tmp_path, ["training.steps=1000000"]))
    gang.hang_seconds = 10  # a step that is recorded takes long on a busy machine
    gang.start()
    gang.wait_for(lambda state: state.state is RunState.TRAINING)
    log = lambda: gang.log("agent-0-0")  # noqa: E731
    folder = tmp_path / "checkpoints" / "diagnostics"

    assert diagnose(gang, "trace", "--steps", "2").startswith("requested trace number 1;")
    eventually(lambda: len(list(folder.glob("trace-1-steps-*.json.gz"))) == 2, gang)
    trace = json.loads(gzip.decompress(next(folder.glob("trace-1-steps-*-rank-1.json.gz")).read_bytes()))
    assert any(event.get("name") == "aten::mm" for event in trace["traceEvents"])

    assert diagnose(gang, "memory", "--steps", "1").startswith("requested memory number 2;")
    eventually(lambda: len(list(folder.glob("memory-2-*.json.gz"))) == 2, gang)
    record = json.loads(gzip.decompress(next(folder.glob("memory-2-*-rank-0.json.gz")).read_bytes()))
    assert any(event.get("name") == "[memory]" for event in record["traceEvents"])

    diagnose(gang, "stacks")
    eventually(lambda: all(f"[rank {rank}] Thread 0x" in log() for rank in (0, 1)), gang)

    before = log().count("[rank 0] Thread 0x")
    os.kill(gang.children(0)[1], signal.SIGSTOP)
    eventually(lambda: log().count("[rank 0] Thread 0x") > before, gang)
    eventually(lambda: log().count("footplate_trainer/loop/") >= 2, gang)
    state = gang.wait_for(lambda state: state.state is RunState.TRAINING and bool(state.failures))
    [failure] = state.failures
    assert (failure.failure.cause, failure.failure.reason) == (Cause.HANG, "ProgressDeadlineExceeded")
    assert "no rank has made progress for" in gang.log("coordinator-1")
