"""Exceptions as the failure policy hears them."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_contracts.reports import FailureReport
from footplate_trainer.data.errors import DataCorrupt, DataMissing
from footplate_trainer.errors import NumericalDivergence, StaleGeneration, StorageError, UserMistake
from footplate_trainer.failure import describe, exit_code, tell

GLOO = (
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:123. "
    "This is typically caused by a remote worker crashing. Check the logs of the remote worker."
)


@pytest.mark.parametrize(
    ("error", "cause", "reason", "code"),
    [
        pytest.param(
            UserMistake("x"), Cause.IMAGE_OR_CONFIG, Reason.CONFIG_REFUSED, ExitCode.CONFIG, id="mistake"
        ),
        pytest.param(
            DataMissing("/d", "no", "do"),
            Cause.IMAGE_OR_CONFIG,
            Reason.DATA_MISSING,
            ExitCode.CONFIG,
            id="data-missing",
        ),
        pytest.param(
            DataCorrupt("f", "sha256", expected="a", found="b"),
            Cause.IMAGE_OR_CONFIG,
            Reason.DATA_CORRUPT,
            ExitCode.CONFIG,
            id="data-corrupt",
        ),
        pytest.param(
            StorageError("x", full=True), Cause.STORAGE, Reason.STORAGE_FULL, ExitCode.STORAGE, id="full"
        ),
        pytest.param(
            OSError(errno.EIO, "x"), Cause.STORAGE, Reason.STORAGE_ERROR, ExitCode.STORAGE, id="disk"
        ),
        pytest.param(
            NumericalDivergence("x"),
            Cause.NUMERICAL_DIVERGENCE,
            Reason.NOT_FINITE,
            ExitCode.USER_ERROR,
            id="not-finite",
        ),
        pytest.param(StaleGeneration("x"), Cause.COMMUNICATION, Reason.PEER_LOST, ExitCode.STALE, id="stale"),
        pytest.param(
            RuntimeError(GLOO), Cause.COMMUNICATION, Reason.PEER_LOST, ExitCode.USER_ERROR, id="peer-lost"
        ),
        pytest.param(
            ConnectionResetError("Connection reset by peer"),
            Cause.COMMUNICATION,
            Reason.PEER_LOST,
            ExitCode.USER_ERROR,
            id="reset",
        ),
        pytest.param(
            torch.OutOfMemoryError("CUDA out of memory"),
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            ExitCode.USER_ERROR,
            id="device-memory",
        ),
        pytest.param(
            ValueError("x"), Cause.USER_ERROR, Reason.PYTHON_ERROR, ExitCode.USER_ERROR, id="anything-else"
        ),
    ],
)
def test_cause_reason_and_exit_code(error: Exception, cause: Cause, reason: str, code: ExitCode) -> None:
    report = describe(error, rank=2, step=5, now=9.0)

    assert (report.cause, report.reason, exit_code(error)) == (cause, reason, code)
    assert (report.rank, report.step, report.time, report.exit_code) == (2, 5, 9.0, code)


def test_an_error_that_knows_its_rank_and_step_says_so() -> None:
    report = describe(NumericalDivergence("x", rank=1, step=7), rank=0, step=6, now=0.0)

    assert (report.rank, report.step) == (1, 7)


def test_the_agent_reads_the_same_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = DataMissing("/data", "manifest.json is missing", "pack again")
    report = describe(error, rank=0, step=None, now=1.0)

    tell(error, report, {"TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json")})

    told = json.loads((tmp_path / "error.json").read_text())
    assert FailureReport.from_json(told["failure"]) == report
    assert told["message"]["extraInfo"]["timestamp"] == "1"
    assert capsys.readouterr().err == "error: /data: manifest.json is missing; pack again\n"


def test_a_lost_peer_is_one_line_as_another_rank_has_the_news(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError(GLOO)

    tell(error, describe(error, rank=0, step=3, now=1.0), {})

    assert capsys.readouterr().err == (
        "error: the connection to another rank is lost: Connection closed by peer [127.0.0.1]:123\n"
    )


def test_an_unforeseen_error_brings_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("surprise")
    except KeyError as error:
        report = describe(error, rank=0, step=None, now=1.0)
        tell(error, report, {})

    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert report.message.endswith("KeyError: 'surprise'")


def test_a_message_that_no_json_carries_is_told_all_the_same() -> None:
    report = describe(ValueError("half of a pair: \ud83d"), rank=0, step=1, now=1.0)
    assert FailureReport.from_json(report.to_json()).message.endswith("ValueError: half of a pair: ?")
