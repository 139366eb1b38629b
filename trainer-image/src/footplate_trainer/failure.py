"""An exception, told as the failure policy wants to hear it.

The agent cannot see exceptions, only how a process ended. So a rank that fails
leaves a file behind (TORCHELASTIC_ERROR_FILE, in the shape that torch's own
`record` writes) with the structured FailureReport beside the text.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_contracts.reports import FailureReport
from footplate_trainer.errors import TrainerError

ERROR_FILE: Final = "TORCHELASTIC_ERROR_FILE"

# What gloo, NCCL and the store say when the other side is gone; their types are plain RuntimeError.
_PEER_GONE: Final = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
_COMMUNICATION: Final = (
    *_PEER_GONE,
    "gloo/transport",
    "Connection refused",
    "NCCL",
    "Timed out waiting",
    "wait timeout",
    "TCPStore",
)


def describe(error: BaseException, *, rank: int | None, step: int | None, now: float) -> FailureReport:
    """The report of `error`, raised on `rank` (None: before there were any) after `step` was finished."""
    cause, reason = _classify(error)
    if isinstance(error, TrainerError):
        rank = rank if error.rank is None else error.rank
        step = step if error.step is None else error.step
    return FailureReport(
        cause=cause,
        reason=reason,
        message=_message(error)[:1024],
        rank=rank,
        exit_code=exit_code(error),
        step=step,
        time=now,
    )


def exit_code(error: BaseException) -> ExitCode:
    """How a process that met `error` should end."""
    if isinstance(error, TrainerError):
        return error.exit_code
    codes = {Cause.IMAGE_OR_CONFIG: ExitCode.CONFIG, Cause.STORAGE: ExitCode.STORAGE}
    return codes.get(_classify(error)[0], ExitCode.USER_ERROR)


def foreseen(error: BaseException) -> bool:
    """Whether one line says all there is to say; otherwise a traceback is owed."""
    return isinstance(error, TrainerError) or _says(error, _PEER_GONE)


def tell(error: BaseException, report: FailureReport, environment: Mapping[str, str]) -> None:
    """One clear line, or a traceback, on stderr; and the error file, where one is asked for."""
    if foreseen(error):
        print(f"error: {report.message}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    if path := environment.get(ERROR_FILE):
        Path(path).write_text(json.dumps(error_file(error, report)))


def error_file(error: BaseException, report: FailureReport) -> dict[str, object]:
    """Content of the error file: torch's keys, and ours under "failure"."""
    callstack = "".join(traceback.format_exception(error))
    extra = {"py_callstack": callstack, "timestamp": str(int(report.time))}
    return {"message": {"message": report.message, "extraInfo": extra}, "failure": report.to_json()}


def _classify(error: BaseException) -> tuple[Cause, str]:
    if isinstance(error, TrainerError):
        return error.cause, error.reason
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY
    if _says(error, _COMMUNICATION):
        return Cause.COMMUNICATION, Reason.PEER_LOST
    if isinstance(error, OSError):
        return Cause.STORAGE, Reason.STORAGE_ERROR
    return Cause.USER_ERROR, Reason.PYTHON_ERROR


def _message(error: BaseException) -> str:
    """The foreseen message; for anything else the end of the traceback, where the news is."""
    if _says(error, _PEER_GONE):
        return f"the connection to another rank is lost: {_first_sentence(str(error))}"
    if foreseen(error):
        return str(error)
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return "\n".join(lines[-8:])[-1024:]


def _first_sentence(text: str) -> str:
    """Without the place in gloo's source before it and the advice behind it."""
    return re.sub(r"^\[\S+:\d+\]\s*", "", text).split(". ")[0]


def _says(error: BaseException, signs: tuple[str, ...]) -> bool:
    return isinstance(error, (ConnectionError, RuntimeError)) and any(sign in str(error) for sign in signs)
