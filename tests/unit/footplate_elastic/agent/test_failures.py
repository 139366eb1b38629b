"""Causes told from exit codes, signals, error files and last lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_elastic.agent.failures import RankEnd, classify, first_failure, oom_kills
from footplate_elastic.protocol.error_file import read


def end(
    code: int | None = 1, error_file: str = "", tail: str = "", rank: int = 0, time: float = 10.0
) -> RankEnd:
    return RankEnd(rank=rank, code=code, time=time, report=read(error_file, time), tail=tail)


def told(cause: Cause, message: str = "m", time: float = 1.0, reason: str = "R") -> str:
    report = FailureReport(cause=cause, reason=reason, message=message, time=time)
    return json.dumps({"failure": report.to_json()})


def lost(message: str = "lost", time: float = 1.0) -> str:
    return told(Cause.COMMUNICATION, message, time, Reason.PEER_LOST)


def by_torch(message: str) -> str:
    return json.dumps({"message": {"message": message, "extraInfo": {"timestamp": "7"}}})


@pytest.mark.parametrize(
    ("left", "out_of_memory", "cause", "reason"),
    [
        pytest.param(end(-9), False, Cause.COMMUNICATION, "RankKilled", id="SIGKILL"),
        pytest.param(end(-9), True, Cause.OUT_OF_MEMORY, "OutOfMemory", id="SIGKILL for memory"),
        pytest.param(end(137), True, Cause.OUT_OF_MEMORY, "OutOfMemory", id="137 for memory"),
        pytest.param(end(137), False, Cause.COMMUNICATION, "RankKilled", id="137"),
        pytest.param(end(-15), False, Cause.COMMUNICATION, "RankKilled", id="SIGTERM"),
        pytest.param(end(-11), False, Cause.USER_ERROR, "PythonError", id="SIGSEGV"),
        pytest.param(end(78), False, Cause.IMAGE_OR_CONFIG, "ConfigRefused", id="78"),
        pytest.param(end(74), False, Cause.STORAGE, "StorageError", id="74"),
        pytest.param(end(80), False, Cause.COMMUNICATION, "PeerLost", id="80"),
        pytest.param(end(1), False, Cause.USER_ERROR, "PythonError", id="1"),
        pytest.param(
            end(-6, tail="terminate called: NCCL error in: x"),
            False,
            Cause.COMMUNICATION,
            "PeerLost",
            id="NCCL",
        ),
        pytest.param(
            end(-6, tail="DefaultCPUAllocator: not enough memory"),
            False,
            Cause.OUT_OF_MEMORY,
            "OutOfMemory",
            id="memory, and no time to raise",
        ),
        pytest.param(end(1, told(Cause.STORAGE)), False, Cause.STORAGE, "R", id="structured"),
        pytest.param(
            end(1, told(Cause.USER_ERROR, "ValueError: Connection closed by peer")),
            False,
            Cause.USER_ERROR,
            "R",
            id="structured, so that no text is searched",
        ),
        pytest.param(
            end(1, by_torch("RuntimeError: Connection closed by peer [10.0.0.1]")),
            False,
            Cause.COMMUNICATION,
            "PeerLost",
            id="torch's recorder, an echo",
        ),
        pytest.param(
            end(1, by_torch("RuntimeError: CUDA out of memory")),
            False,
            Cause.OUT_OF_MEMORY,
            "OutOfMemory",
            id="torch's recorder, memory",
        ),
        pytest.param(
            end(1, by_torch("ValueError: no")), False, Cause.USER_ERROR, "PythonError", id="torch's recorder"
        ),
        pytest.param(end(1, "{half a fi"), False, Cause.USER_ERROR, "PythonError", id="torn file"),
        pytest.param(end(1, "[]"), False, Cause.USER_ERROR, "PythonError", id="a list"),
        pytest.param(end(1, '{"failure": 3}'), False, Cause.USER_ERROR, "PythonError", id="odd file"),
    ],
)
def test_the_cause_of_an_end(left: RankEnd, out_of_memory: bool, cause: Cause, reason: str) -> None:
    report = classify(left, out_of_memory)
    assert (report.cause, report.reason, report.rank) == (cause, reason, 0)


@pytest.mark.parametrize("written", ["", '{"failure": {"cau'])
def test_a_rank_that_still_writes_its_error_has_not_spoken(written: str) -> None:
    echo = end(1, lost(), rank=0)
    writing = end(None, written, rank=1, time=float("inf"))
    assert first_failure([echo, writing], False).message == "lost"


def test_an_error_speaks_before_the_echoes_that_came_first() -> None:
    echo = end(1, lost(), rank=0)
    error = end(None, told(Cause.USER_ERROR, "mine", time=2.0), rank=1)
    assert first_failure([echo, error], False).message == "mine"


def test_the_earliest_of_several_errors_speaks() -> None:
    late = end(1, told(Cause.USER_ERROR, "late", time=2.0))
    early = end(1, told(Cause.USER_ERROR, "early", time=1.0))
    assert first_failure([late, early], False).message == "early"


def test_a_killed_rank_speaks_before_those_that_lost_it() -> None:
    killed = end(-9, rank=3, time=5.0)
    echo = end(1, lost(time=4.9), rank=1)
    assert first_failure([echo, killed], False).rank == 3


def test_an_echo_that_had_to_be_stopped_stays_one() -> None:
    error = end(1, told(Cause.USER_ERROR, "mine", time=2.0), rank=1)
    assert first_failure([end(-9, lost(), rank=0), error], False).message == "mine"


def test_a_long_message_keeps_its_end() -> None:
    report = classify(end(1, tail="x" * 3000 + "the point"), False)
    assert len(report.message) == 1024 and report.message.endswith("the point")


@pytest.mark.parametrize(
    ("content", "kills"),
    [
        pytest.param("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", 2, id="two"),
        pytest.param("", 0, id="none"),
        pytest.param(None, 0, id="no such file"),
    ],
)
def test_the_kernels_count_of_memory_kills(tmp_path: Path, content: str | None, kills: int) -> None:
    events = tmp_path / "memory.events"
    if content is not None:
        events.write_text(content)
    assert oom_kills(events) == kills
