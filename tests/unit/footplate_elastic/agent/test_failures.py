"""Causes told from exit codes, signals, error files and last lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_elastic.agent.failures import classify, first_failure, oom_kills
from footplate_elastic.agent.zygote_client import ProcessExit
from footplate_elastic.protocol.error_file import read


def ended(
    code: int = 1,
    error_file: str = "",
    tail: str = "",
    rank: int = 0,
    time: float = 10.0,
    out_of_memory: bool = False,
) -> FailureReport:
    """The report of a rank that has ended."""
    report = classify(rank, ProcessExit(code, time), read(error_file, time), tail, out_of_memory)
    assert report is not None
    return report


def told(cause: Cause, message: str = "m", time: float = 1.0, reason: str = "R") -> str:
    report = FailureReport(cause=cause, reason=reason, message=message, time=time)
    return json.dumps({"failure": report.to_json()})


def lost(message: str = "lost", time: float = 1.0) -> str:
    return told(Cause.COMMUNICATION, message, time, Reason.PEER_LOST)


def by_torch(message: str) -> str:
    return json.dumps({"message": {"message": message, "extraInfo": {"timestamp": "7"}}})


@pytest.mark.parametrize(
    ("report", "cause", "reason"),
    [
        pytest.param(ended(-9), Cause.COMMUNICATION, "RankKilled", id="SIGKILL"),
        pytest.param(
            ended(-9, out_of_memory=True), Cause.OUT_OF_MEMORY, "OutOfMemory", id="SIGKILL for memory"
        ),
        pytest.param(ended(137, out_of_memory=True), Cause.OUT_OF_MEMORY, "OutOfMemory", id="137 for memory"),
        pytest.param(ended(137), Cause.COMMUNICATION, "RankKilled", id="137"),
        pytest.param(ended(-15), Cause.COMMUNICATION, "RankKilled", id="SIGTERM"),
        pytest.param(ended(-11), Cause.USER_ERROR, "PythonError", id="SIGSEGV"),
        pytest.param(ended(78), Cause.IMAGE_OR_CONFIG, "ConfigRefused", id="78"),
        pytest.param(ended(74), Cause.STORAGE, "StorageError", id="74"),
        pytest.param(ended(80), Cause.COMMUNICATION, "PeerLost", id="80"),
        pytest.param(ended(1), Cause.USER_ERROR, "PythonError", id="1"),
        pytest.param(
            ended(-6, tail="terminate called: NCCL error in: x"),
            Cause.COMMUNICATION,
            "PeerLost",
            id="NCCL",
        ),
        pytest.param(
            ended(-6, tail="DefaultCPUAllocator: not enough memory"),
            Cause.OUT_OF_MEMORY,
            "OutOfMemory",
            id="memory, and no time to raise",
        ),
        pytest.param(ended(1, told(Cause.STORAGE)), Cause.STORAGE, "R", id="structured"),
        pytest.param(
            ended(1, told(Cause.USER_ERROR, "ValueError: Connection closed by peer")),
            Cause.USER_ERROR,
            "R",
            id="structured, so that no text is searched",
        ),
        pytest.param(
            ended(1, by_torch("RuntimeError: Connection closed by peer [10.0.0.1]")),
            Cause.COMMUNICATION,
            "PeerLost",
            id="torch's recorder, an echo",
        ),
        pytest.param(
            ended(1, by_torch("RuntimeError: CUDA out of memory")),
            Cause.OUT_OF_MEMORY,
            "OutOfMemory",
            id="torch's recorder, memory",
        ),
        pytest.param(
            ended(1, by_torch("ValueError: no")), Cause.USER_ERROR, "PythonError", id="torch's recorder"
        ),
        pytest.param(ended(1, "{half a fi"), Cause.USER_ERROR, "PythonError", id="torn file"),
        pytest.param(ended(1, "[]"), Cause.USER_ERROR, "PythonError", id="a list"),
        pytest.param(ended(1, '{"failure": 3}'), Cause.USER_ERROR, "PythonError", id="odd file"),
    ],
)
def test_the_cause_of_an_end(report: FailureReport, cause: Cause, reason: str) -> None:
    assert (report.cause, report.reason, report.rank) == (cause, reason, 0)


@pytest.mark.parametrize("written", ["", '{"failure": {"cau'])
def test_a_rank_that_still_writes_its_error_has_not_spoken(written: str) -> None:
    assert classify(1, None, read(written, float("inf")), "", False) is None


def test_an_error_speaks_before_the_echoes_that_came_first() -> None:
    error = classify(1, None, read(told(Cause.USER_ERROR, "mine", time=2.0), float("inf")), "", False)
    assert error is not None and error.exit_code is None, "it still runs"
    assert first_failure([ended(1, lost(), rank=0), error]).message == "mine"


def test_the_earliest_of_several_errors_speaks() -> None:
    late = ended(1, told(Cause.USER_ERROR, "late", time=2.0))
    early = ended(1, told(Cause.USER_ERROR, "early", time=1.0))
    assert first_failure([late, early]).message == "early"


def test_a_killed_rank_speaks_before_those_that_lost_it() -> None:
    killed = ended(-9, rank=3, time=5.0)
    echo = ended(1, lost(time=4.9), rank=1)
    assert first_failure([echo, killed]).rank == 3


def test_an_echo_that_had_to_be_stopped_stays_one() -> None:
    error = ended(1, told(Cause.USER_ERROR, "mine", time=2.0), rank=1)
    assert first_failure([ended(-9, lost(), rank=0), error]).message == "mine"


def test_a_long_message_keeps_its_end() -> None:
    report = ended(1, tail="x" * 3000 + "the point")
    assert len(report.message) == 1024 and report.message.endswith("the point")


@pytest.mark.parametrize(
    ("content", "kills"),
    [
        pytest.param("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", 2, id="two"),
        pytest.param("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1, id="cgroups-v1"),
        pytest.param("", 0, id="none"),
        pytest.param(None, 0, id="no such file"),
    ],
)
def test_the_kernels_count_of_memory_kills(tmp_path: Path, content: str | None, kills: int) -> None:
    events = tmp_path / "memory.events"
    if content is not None:
        events.write_text(content)
    assert oom_kills([events, tmp_path / "of-the-other-version"]) == kills
