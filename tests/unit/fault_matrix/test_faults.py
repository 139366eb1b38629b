"""Judgements of what a fault may count, and how a broken GPU is played."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from cluster.machine.records import observed_start_time
from cluster.native.pods import Process
from footplate_contracts.names import Cause, Reason
from footplate_elastic.agent.failures import classify
from footplate_elastic.agent.zygote_client import ProcessExit
from tests.support import processes
from tests.support.matrix import FAULTS
from tests.system.faults.over_runs import UNCORRECTABLE

_RANK: Final = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.mark.parametrize(
    ("fault", "before", "after", "excess"),
    [
        pytest.param("GPU broken again", {}, {}, "", id="none"),
        pytest.param(
            "GPU broken again", {"Communication": 1}, {"Communication": 1, "NodeLost": 1}, "", id="one"
        ),
        pytest.param(
            "GPU broken again", {}, {"NodeLost": 2}, "2 failures counted, where 1 may be", id="broken-twice"
        ),
        pytest.param("worker deleted", {}, {"NodeLost": 2}, "", id="any-number"),
        pytest.param(
            "cordon without room elsewhere",
            {},
            {"Preempted": 1},
            "['Preempted'] counted, where [] may be",
            id="moved-without-room",
        ),
        pytest.param(
            "worker deleted",
            {"Hang": 1},
            {"Hang": 2, "NodeLost": 1},
            "['Hang', 'NodeLost'] counted, where ['NodeLost'] may be",
            id="another-cause",
        ),
    ],
)
def test_failures_beyond_what_a_fault_may_count(
    fault: str, before: dict[str, int], after: dict[str, int], excess: str
) -> None:
    assert FAULTS[fault].find_excess(before, after) == excess


def test_an_aborted_rank_is_that_of_a_broken_gpu() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _RANK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as rank:
        assert rank.stdout is not None and rank.stdout.readline() == b"ready\n"
        started = observed_start_time(rank.pid)
        assert started is not None
        processes.abort(Process(rank.pid, started, "rank-0", ()), UNCORRECTABLE)
        _, tail = rank.communicate(timeout=30)
    report = classify(0, ProcessExit(rank.returncode, 1.0), None, tail.decode(), out_of_memory=False)
    assert report is not None and (report.cause, report.reason) == (Cause.NODE_LOST, Reason.GPU_ERROR)
    assert UNCORRECTABLE in report.message


def test_a_rank_that_has_ended_cannot_be_aborted() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as rank:
        rank.wait(timeout=30)
    processes.abort(Process(rank.pid, 0, "rank-0", ()), UNCORRECTABLE)
