"""Log format shared by all programs, so that a run's lines can be read and searched together.

Every line has its time (UTC), level, logger and message, then fields: the run, the generation, the rank.
A person reads `key=value` with any pager, and a log store reads JSON; one setting chooses. Two kinds of
fields are bound rather than passed: those of the whole process (a rank is a rank all its life), and those
of a task (a reconciliation is about one run).

structlog does the same and more. This file is all that is needed of it, and the
libraries around us (kopf, uvicorn, torch) log through the standard library anyway.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TextIO

from footplate_contracts.json_lines import json_line
from footplate_contracts.names import Env, LogFormat

# How lines of ours begin and, of logfmt, go on.
_JSON_BEGINS: Final = '{"time": "'
_LOGFMT_MESSAGE: Final = re.compile(r'time=\S+ level=\S+ logger=\S+ message=("(?:[^"\\]|\\.)*"|\S*)')
_of_process: dict[str, object] = {}
_of_task: ContextVar[Mapping[str, object]] = ContextVar("log fields", default=MappingProxyType({}))


def configure(*speakers: str, level: str = "INFO", log_format: LogFormat = LogFormat.LOGFMT) -> None:
    """Send all logs of this process to stderr; as TEXT, records below WARNING go to stdout.

    The loggers `speakers` log from `level` on, all others, libraries mostly, from WARNING on.
    """
    handler = _Console(log_format)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in speakers:
        logging.getLogger(name).setLevel(level)


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Return a formatter of this format."""
    return _FORMATTERS[log_format]()


def format_of(environment: Mapping[str, str], default: LogFormat = LogFormat.LOGFMT) -> LogFormat:
    """Read the log format from `environment`, else return `default`; raises ValueError for an unknown one."""
    text = environment.get(Env.LOG_FORMAT, "")
    try:
        return LogFormat(text) if text else default
    except ValueError:
        raise ValueError(f"{Env.LOG_FORMAT} is {text!r}; must be one of {', '.join(LogFormat)}") from None


def set_process_fields(**about: object) -> None:
    """Add fields to every line from now on, unless None or ""; a function is called for each line."""
    _of_process.update(about)


@contextmanager
def bind(**about: object) -> Iterator[None]:
    """Add fields to every line that is logged within the block, and in the tasks that it starts."""
    token = _of_task.set({**_of_task.get(), **about})
    try:
        yield
    finally:
        _of_task.reset(token)


def log_fields(**about: object) -> dict[str, Any]:
    """Return fields of one line, to be passed as `extra`; `exception` is a traceback that is text already."""
    return {"fields": about}


def message_of(line: str) -> str:
    """Return the message of a log line, whatever its format; any other line is its own message."""
    if line.startswith(_JSON_BEGINS):
        return str(json.loads(line)["message"])
    found = _LOGFMT_MESSAGE.match(line)
    if found is None:
        return line
    return str(json.loads(found[1])) if found[1].startswith('"') else found[1]


class _Console(logging.StreamHandler[TextIO]):
    """Handler that writes to the current stdout and stderr, which tests and commands redirect."""

    def __init__(self, log_format: LogFormat) -> None:
        super().__init__()
        self.setFormatter(formatter(log_format))
        self._calm_to_stdout = log_format is LogFormat.TEXT

    def emit(self, record: logging.LogRecord) -> None:
        calm = self._calm_to_stdout and record.levelno < logging.WARNING
        self.stream = sys.stdout if calm else sys.stderr
        super().emit(record)


class _Formatter(logging.Formatter):
    """Base of the formatters, which collects the fields of a line."""

    def members(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the fields of the line by name, in order; `exception` comes last where there is one."""
        own = dict(getattr(record, "fields", {}))
        exception = own.pop("exception", None)
        if record.exc_info:
            exception = self.formatException(record.exc_info)
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in {**_of_process, **_of_task.get(), **own, "exception": exception}.items():
            known = value() if callable(value) else value
            if known is not None and known != "":
                line.setdefault(name, known)
        return line


class _Logfmt(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = self.members(record)
        exception = line.pop("exception", None)
        text = " ".join(f"{name}={_quoted(str(value))}" for name, value in line.items())
        return text if exception is None else f"{text}\n{exception}"


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = self.members(record)
        return json_line({name: _plain(value) for name, value in line.items()})


class _Text(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = self.members(record)
        grave = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        exception = line.get("exception")
        return f"{grave}{line['message']}" + ("" if exception is None else f"\n{exception}")


_FORMATTERS: Final = {LogFormat.LOGFMT: _Logfmt, LogFormat.JSON: _Json, LogFormat.TEXT: _Text}


def _plain(value: object) -> object:
    """Convert `value` for JSON: a finite number stays, anything else becomes text, NaN and infinities too."""
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_number else str(value)


def _quoted(text: str) -> str:
    """Format a logfmt value: quoted if empty, or with a blank, a quote, "=" or an unprintable character."""
    if text and text.isprintable() and not any(sign in text for sign in ' "='):
        return text
    return json_line(text)
