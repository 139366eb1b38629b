"""An exception, told as the failure policy wants to hear it.

The agent cannot see exceptions, only how a process ended. So a rank that fails
leaves an error file behind, with its FailureReport beside the text.
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


def describe(error: BaseException, *, rank: int | None, step: int | None, now: float) -> FailureReport:
    """The report of `error`, raised on `rank` (None: before there were any) after `step` was finished."""
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
    """How a process that met `error` should end, and why.

    What torch raises of a peer that is gone, or of memory, counts also where other code met it
    first and raised an error of its own: a stage of a pipeline does.
    """
    if isinstance(error, TrainerError):
        return error.outcome
    raised, *before = with_causes(error)
    if (outcome := _told_by_torch(raised)) is not None:
        return outcome
    if isinstance(error, OSError):
        told = outcome_of_text(str(error))
        return told if told is not None and told.cause in _OF_THE_SYSTEM else OUTCOMES[ExitCode.STORAGE]
    known = (_told_by_torch(earlier) for earlier in before)
    return next((outcome for outcome in known if outcome is not None), OUTCOMES[ExitCode.USER_ERROR])


def tell(error: BaseException, report: FailureReport, environment: Mapping[str, str]) -> None:
    """One clear line, or a traceback, on stderr; and the error file, where one is asked for."""
    if isinstance(error, TrainerError) or _peer_gone(error):  # one line says all there is to say
        print(f"error: {report.message}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    if path := environment.get(error_file.VARIABLE):
        callstack = "".join(traceback.format_exception(error))
        Path(path).write_text(error_file.content(report, callstack))


def with_causes(error: BaseException) -> Iterator[BaseException]:
    """`error`, and the errors that a traceback shows before it, newest first."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _message(error: BaseException) -> str:
    """The foreseen message; for anything else the end of the traceback, where the news is."""
    if isinstance(error, TrainerError):
        return str(error)
    if _peer_gone(error):
        return f"the connection to another rank is lost: {_first_sentence(str(error))}"
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return "\n".join(lines[-8:])[-MESSAGE_LIMIT:]


def _first_sentence(text: str) -> str:
    """Without the place in gloo's source before it and the advice behind it."""
    return re.sub(r"^\[\S+:\d+\]\s*", "", text).split(". ")[0]


def _peer_gone(error: BaseException) -> bool:
    return isinstance(error, (ConnectionError, RuntimeError)) and is_peer_gone(str(error))


def _told_by_torch(error: BaseException) -> Outcome | None:
    """By type and text: torch and the system raise these types, and a user's ValueError may say anything."""
    if isinstance(error, (ConnectionError, MemoryError, RuntimeError)):
        return outcome_of_text(f"{type(error).__name__}: {error}")
    return None
