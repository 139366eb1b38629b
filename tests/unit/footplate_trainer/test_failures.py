"""Exceptions as the failure policy hears them."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_trainer.errors import (
    DataCorrupt,
    DataMissing,
    NumericalDivergence,
    StaleGeneration,
    StorageError,
    TooManyUnrewarded,
    TransientOutOfMemory,
    UserMistake,
)
from footplate_trainer.failure_reports import failure_report, outcome_of, write_failure

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
            DataMissing.at("/d", "no", "do"),
            Cause.IMAGE_OR_CONFIG,
            Reason.DATA_MISSING,
            ExitCode.CONFIG,
            id="data-missing",
        ),
        pytest.param(
            DataCorrupt.at("f", "sha256", expected="a", found="b"),
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
            OSError(errno.ENOSPC, "No space left on device"),
            Cause.STORAGE,
            Reason.STORAGE_FULL,
            ExitCode.STORAGE,
            id="disk-full",
        ),
        pytest.param(
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            ExitCode.USER_ERROR,
            id="no-memory-to-fork",
        ),
        pytest.param(
            RuntimeError("CUDA error: uncorrectable ECC error encountered"),
            Cause.NODE_LOST,
            Reason.GPU_ERROR,
            ExitCode.USER_ERROR,
            id="broken-gpu",
        ),
        pytest.param(
            NumericalDivergence("x"),
            Cause.NUMERICAL_DIVERGENCE,
            Reason.NOT_FINITE,
            ExitCode.USER_ERROR,
            id="not-finite",
        ),
        pytest.param(
            TooManyUnrewarded("x"),
            Cause.USER_ERROR,
            Reason.SAMPLES_UNREWARDED,
            ExitCode.USER_ERROR,
            id="unrewarded",
        ),
        pytest.param(
            TransientOutOfMemory("x"),
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            ExitCode.USER_ERROR,
            id="no-room-now",
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
    report = failure_report(error, rank=2, step=5, now=9.0)

    assert (report.cause, report.reason, outcome_of(error).exit_code) == (cause, reason, code)
    assert (report.rank, report.step, report.time, report.exit_code) == (2, 5, 9.0, code)


def wrapped(error: Exception, cause: Exception) -> Exception:
    """`error`, raised while `cause` was handled."""
    error.__context__ = cause
    return error


NCCL = "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, {}, NCCL version 2.21.5\n{}"


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        pytest.param(
            torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
            Cause.NODE_LOST,
            Reason.GPU_ERROR,
            id="accelerator-error",
        ),
        pytest.param(
            torch.AcceleratorError("CUDA error: device-side assert triggered"),
            Cause.USER_ERROR,
            Reason.PYTHON_ERROR,
            id="accelerator-error-of-a-kernel",
        ),
        pytest.param(
            torch.AcceleratorError("CUDA error: out of memory"),
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            id="accelerator-error-of-memory",
        ),
        pytest.param(
            torch.distributed.DistBackendError(
                NCCL.format("unhandled system error", "ncclSystemError: Call to ibv_reg_mr failed with error")
                + " Cannot allocate memory"
            ),
            Cause.IMAGE_OR_CONFIG,
            Reason.NODE_MISCONFIGURED,
            id="system-error",
        ),
        pytest.param(
            torch.distributed.DistBackendError(
                NCCL.format("unhandled cuda error", "ncclUnhandledCudaError: Call to CUDA function failed.")
                + "\nLast error:\nCuda failure 802 'system not yet initialized'"
            ),
            Cause.NODE_LOST,
            Reason.GPU_ERROR,
            id="unhandled-cuda-error",
        ),
        pytest.param(
            torch.distributed.DistBackendError(
                NCCL.format("unhandled cuda error", "ncclUnhandledCudaError: Cuda failure 2 'out of memory'")
            ),
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            id="unhandled-cuda-error-of-memory",
        ),
        pytest.param(
            torch.distributed.DistBackendError(
                NCCL.format("internal error", "ncclInternalError: Internal check failed.")
            ),
            Cause.COMMUNICATION,
            Reason.PEER_LOST,
            id="internal-error",
        ),
        pytest.param(
            torch.distributed.DistBackendError(
                NCCL.format("remote process exited", "ncclRemoteError: A call failed")
            ),
            Cause.COMMUNICATION,
            Reason.PEER_LOST,
            id="remote-error",
        ),
    ],
)
def test_what_torch_raises_of_a_machine(error: Exception, cause: Cause, reason: Reason) -> None:
    report = failure_report(error, rank=2, step=5, now=9.0)
    assert (report.cause, report.reason) == (cause, reason)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        pytest.param(
            wrapped(RuntimeError("[Stage 1] failed to run forward"), RuntimeError(GLOO)),
            Cause.COMMUNICATION,
            id="a-stage-of-a-pipeline-lost-its-peer",
        ),
        pytest.param(
            wrapped(RuntimeError("[Stage 1] failed"), torch.OutOfMemoryError("CUDA out of memory")),
            Cause.OUT_OF_MEMORY,
            id="a-stage-of-a-pipeline-has-no-memory",
        ),
        pytest.param(
            wrapped(ValueError("bad row"), FileNotFoundError("rows.json")),
            Cause.USER_ERROR,
            id="a-file-that-the-user-looked-for",
        ),
        pytest.param(
            ValueError("expected 'Connection refused' in column 3"), Cause.USER_ERROR, id="a-user's-own-text"
        ),
        pytest.param(RuntimeError("no NCCL built in"), Cause.USER_ERROR, id="an-image-without-nccl"),
        pytest.param(MemoryError(), Cause.OUT_OF_MEMORY, id="host-memory-without-a-text"),
    ],
)
def test_what_lies_behind_an_error(error: Exception, cause: Cause) -> None:
    assert outcome_of(error).cause is cause


def test_an_error_that_knows_its_rank_and_step_says_so() -> None:
    report = failure_report(NumericalDivergence("x", rank=1, step=7), rank=0, step=6, now=0.0)

    assert (report.rank, report.step) == (1, 7)


def test_the_agent_reads_the_same_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = DataMissing.at("/data", "manifest.json is missing", "pack again")
    report = failure_report(error, rank=0, step=None, now=1.0)

    write_failure(error, report, {"TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json")})

    told = json.loads((tmp_path / "error.json").read_text())
    assert FailureReport.from_json(told["failure"]) == report
    assert told["message"]["extraInfo"]["timestamp"] == "1"
    assert capsys.readouterr().err == "error: /data: manifest.json is missing; pack again\n"


def test_a_lost_peer_is_one_line_as_another_rank_has_the_news(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError(GLOO)

    write_failure(error, failure_report(error, rank=0, step=3, now=1.0), {})

    assert capsys.readouterr().err == (
        "error: the connection to another rank is lost: Connection closed by peer [127.0.0.1]:123\n"
    )


def test_an_unforeseen_error_brings_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("surprise")
    except KeyError as error:
        report = failure_report(error, rank=0, step=None, now=1.0)
        write_failure(error, report, {})

    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert report.message.endswith("KeyError: 'surprise'")


def test_a_message_that_no_json_carries_is_told_all_the_same() -> None:
    report = failure_report(ValueError("half of a pair: \ud83d"), rank=0, step=1, now=1.0)
    assert FailureReport.from_json(report.to_json()).message.endswith("ValueError: half of a pair: ?")
