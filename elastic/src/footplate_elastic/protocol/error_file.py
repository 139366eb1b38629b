"""The file that a rank leaves behind when it fails: torch's own `record` format, and our report.

Agents of torch read the text, ours the FailureReport beside it. A script that knows nothing of Footplate
writes the text alone, and a rank that was killed while it wrote leaves half of it.
"""

from __future__ import annotations

import json
from typing import Final

from footplate_contracts.base import WireMessage
from footplate_contracts.failures import OUTCOMES, FailureReport, Message, outcome_of_text, truncate_message
from footplate_contracts.names import ExitCode

VARIABLE: Final = "TORCHELASTIC_ERROR_FILE"
"""Environment variable with the path, as torch names it."""


class _Extra(WireMessage):
    timestamp: float | None = None


class _Recorded(WireMessage):
    message: Message = ""
    extra_info: _Extra = _Extra()


class _ErrorFile(WireMessage):
    message: _Recorded | Message = ""
    failure: FailureReport | None = None


def content(report: FailureReport, callstack: str) -> str:
    """Return the file's content: torch's keys, and ours under "failure"."""
    extra = {"py_callstack": callstack, "timestamp": str(int(report.time))}
    message = {"message": report.message, "extraInfo": extra}
    return json.dumps({"message": message, "failure": report.to_json()})


def read(text: str, time: float) -> FailureReport | None:
    """Return the report in `text`, or one made from torch's text; None where it holds neither, whole.

    `time`, in seconds since the Unix epoch, is when the rank ended, for a text without a time of its own.
    """
    try:
        found = _ErrorFile.from_json(json.loads(text))
    except ValueError:  # no JSON, or pydantic's ValidationError
        return None
    if found.failure is not None:
        return found.failure
    told = found.message if isinstance(found.message, _Recorded) else _Recorded(message=found.message)
    outcome = outcome_of_text(told.message) or OUTCOMES[ExitCode.USER_ERROR]
    return FailureReport(
        cause=outcome.cause,
        reason=outcome.reason,
        message=truncate_message(told.message),
        time=time if told.extra_info.timestamp is None else told.extra_info.timestamp,
    )
