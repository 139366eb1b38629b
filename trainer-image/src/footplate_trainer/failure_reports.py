"""Exceptions as failure reports for the failure policy.

The agent cannot see exceptions, only how a process ended. So a rank that fails
writes an error file with its FailureReport beside the text.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from footplate_contracts.failures import (
    MESSAGE_LIMIT,
    OUTCOMES,
    FailureReport,
    Outcome,
    is_peer_gone,
    outcome_of_text,
)
from footplate_contracts.names import Cause, ExitCode
from footplate_elastic.protocol import error_file
from footplate_trainer.errors import TrainerError

# What the system says of itself; any other OSError is of a file or of a store.
_OF_THE_SYSTEM: Final = frozenset({Cause.OUT_OF_MEMORY, Cause.STORAGE})


def failure_report(error: BaseException, *, rank: int | None, step: int | None, now: float) -> FailureReport:
    """Return the report of `error`, raised on `rank` after `step`; None: before there were ranks or steps."""
    exit_code, cause, reason = outcome_of(error)
    if isinstance(error, TrainerError):
        rank = rank if error.rank is None else error.rank
        step = step if error.step is None else error.step
    return FailureReport(
        cause=cause,
        reason=reason,
        message=_message(error)[:MESSAGE_LIMIT],
        rank=rank,
        exit_code=exit_code,
        step=step,
        time=now,
    )


def outcome_of(error: BaseException) -> Outcome:
    """Return the exit code, cause and reason for a process that met `error`.

    torch's errors about a lost peer or about memory also count where other code caught them
    first and raised an error of its own, as a pipeline stage does.
    """
    if isinstance(error, TrainerError):
        return error.outcome
    raised, *before = exception_chain(error)
    if (outcome := _told_by_torch(raised)) is not None:
        return outcome
    if isinstance(error, OSError):
        told = outcome_of_text(str(error))
        return told if told is not None and told.cause in _OF_THE_SYSTEM else OUTCOMES[ExitCode.STORAGE]
    known = (_told_by_torch(earlier) for earlier in before)
    return next((outcome for outcome in known if outcome is not None), OUTCOMES[ExitCode.USER_ERROR])


def write_failure(error: BaseException, report: FailureReport, environment: Mapping[str, str]) -> None:
    """Print one clear line or a traceback to stderr, and write the error file that the environment names."""
    if isinstance(error, TrainerError) or _peer_gone(error):  # one line says all there is to say
        print(f"error: {report.message}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    if path := environment.get(error_file.VARIABLE):
        callstack = "".join(traceback.format_exception(error))
        Path(path).write_text(error_file.content(report, callstack))


def exception_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and the errors that a traceback shows before it, newest first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _message(error: BaseException) -> str:
    """Return a foreseen error's message, or the last lines of any other error's traceback."""
    if isinstance(error, TrainerError):
        return str(error)
    if _peer_gone(error):
        return f"the connection to another rank is lost: {_first_sentence(str(error))}"
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return "\n".join(lines[-8:])[-MESSAGE_LIMIT:]


def _first_sentence(text: str) -> str:
    """Return gloo's message without the source location before it and the advice after it."""
    return re.sub(r"^\[\S+:\d+\]\s*", "", text).split(". ")[0]


def _peer_gone(error: BaseException) -> bool:
    return isinstance(error, (ConnectionError, RuntimeError)) and is_peer_gone(str(error))


def _told_by_torch(error: BaseException) -> Outcome | None:
    """Return the outcome of an error of torch or the system, or None.

    The type counts too, as a user's ValueError may have any text.
    """
    if isinstance(error, (ConnectionError, MemoryError, RuntimeError)):
        return outcome_of_text(f"{type(error).__name__}: {error}")
    return None
