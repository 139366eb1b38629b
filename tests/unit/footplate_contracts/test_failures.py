"""What exit codes, texts and reports say of a failure, to every program alike."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from footplate_contracts.failures import (
    MESSAGE_LIMIT,
    OUTCOMES,
    FailureReport,
    is_peer_gone,
    is_secondary,
    outcome_of_text,
    truncate_message,
)
from footplate_contracts.names import Cause, ExitCode, Reason

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:123"


def report(cause: Cause, reason: Reason, code: int | None = 1) -> FailureReport:
    return FailureReport(cause=cause, reason=reason, message="m", exit_code=code, time=0.0)


def test_every_exit_code_of_a_failure_has_its_outcome() -> None:
    assert set(OUTCOMES) == set(ExitCode) - {ExitCode.SUCCESS, ExitCode.SUSPENDED}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        pytest.param(f"RuntimeError: {GLOO}", Cause.COMMUNICATION, id="gloo"),
        pytest.param("connection reset by peer", Cause.COMMUNICATION, id="in-small-letters"),
        pytest.param("terminate called: NCCL error in: x", Cause.COMMUNICATION, id="nccl"),
        pytest.param("DistBackendError: anything", Cause.COMMUNICATION, id="by-its-type"),
        pytest.param("DistStoreError: wait", Cause.COMMUNICATION, id="the-store"),
        pytest.param("RuntimeError: NCCL communicator was aborted", Cause.COMMUNICATION, id="nccl-aborted"),
        pytest.param(
            "ProcessGroupNCCL.cpp:632] Watchdog caught collective operation timeout",
            Cause.COMMUNICATION,
            id="nccl-watchdog",
        ),
        pytest.param("RuntimeError: CUDA out of memory", Cause.OUT_OF_MEMORY, id="device-memory"),
        pytest.param("DefaultCPUAllocator: not enough memory", Cause.OUT_OF_MEMORY, id="host-memory"),
        pytest.param("NCCL error in: x, invalid usage", Cause.USER_ERROR, id="nccl-misused"),
        pytest.param("uncorrectable ECC error; NCCL error in: x", Cause.NODE_LOST, id="a-broken-gpu-first"),
        pytest.param("[Errno 28] No space left on device", Cause.STORAGE, id="a-full-disk"),
        pytest.param("CUDA out of memory; Broken pipe", Cause.OUT_OF_MEMORY, id="memory-before-connections"),
        pytest.param("Distributed package has no NCCL built in", None, id="an-image-without-nccl"),
        pytest.param("NCCL INFO Bootstrap: using eth0", None, id="a-line-of-the-log"),
        pytest.param("Read error in line 3", None, id="a-parser's-read-error"),
        pytest.param("ValueError: no", None, id="anything-else"),
    ],
)
def test_what_a_text_says(text: str, cause: Cause | None) -> None:
    outcome = outcome_of_text(text)
    assert (outcome.cause if outcome else None) is cause


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        pytest.param(GLOO, True, id="gloo"),
        pytest.param("[Errno 32] Broken pipe", True, id="socket"),
        pytest.param("NCCL error: invalid usage", False, id="nccl-has-more-to-say"),
    ],
)
def test_a_peer_that_is_gone(text: str, gone: bool) -> None:
    assert is_peer_gone(text) is gone


@pytest.mark.parametrize(
    ("cause", "reason", "code", "secondary"),
    [
        pytest.param(Cause.COMMUNICATION, Reason.PEER_LOST, 1, True, id="lost-connection"),
        pytest.param(Cause.COMMUNICATION, Reason.PEER_LOST, None, True, id="lost-connection-still-running"),
        pytest.param(Cause.COMMUNICATION, Reason.PEER_LOST, -6, True, id="aborted-by-the-watchdog-of-nccl"),
        pytest.param(Cause.COMMUNICATION, Reason.RANK_KILLED, -9, False, id="killed"),
        pytest.param(Cause.COMMUNICATION, Reason.RANK_KILLED, 137, False, id="killed-as-a-shell-says-it"),
        pytest.param(Cause.USER_ERROR, Reason.PYTHON_ERROR, 1, False, id="user-error"),
    ],
)
def test_only_a_lost_connection_is_secondary(
    cause: Cause, reason: Reason, code: int | None, secondary: bool
) -> None:
    assert is_secondary(report(cause, reason, code)) is secondary


def test_a_report_of_a_newer_release_is_read() -> None:
    told = {"cause": "Sunspots", "reason": "TooMany", "message": "m", "time": 1.0, "region": "north"}
    read = FailureReport.from_json(told)
    assert (read.cause, read.reason) == (Cause.USER_ERROR, "TooMany")


@pytest.mark.parametrize("cause", [None, 3, []])
def test_a_cause_that_is_no_word_is_refused(cause: object) -> None:
    with pytest.raises(ValidationError):
        FailureReport.from_json({"cause": cause, "reason": "R", "message": "m", "time": 1.0})


def test_a_message_fits_into_a_status() -> None:
    long = "x" * 3000 + "the point"
    with pytest.raises(ValidationError):
        FailureReport(cause=Cause.USER_ERROR, reason="R", message=long, time=0.0)
    assert len(truncate_message(long)) == MESSAGE_LIMIT and truncate_message(long).endswith("the point")
    assert truncate_message("short") == "short"
