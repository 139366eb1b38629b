"""What a log line looks like, in each format."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from footplate_contracts import logs
from footplate_contracts.logs import bind, log_fields
from footplate_contracts.names import LogFormat

NOON = 1_769_860_800.25  # 2026-01-31 12:00:00.25 UTC


@pytest.fixture(autouse=True)
def rank() -> Iterator[None]:
    """A process that is a rank of a run."""
    logs.set_process_fields(rank=3, generation=None)
    yield
    logs.set_process_fields(rank=None)


def line(log_format: LogFormat, message: str, level: int = logging.INFO, **about: object) -> str:
    """The line that a program writes for `message`; within an except block with its traceback."""
    error = sys.exc_info()
    record = logging.LogRecord("footplate.x", level, "x.py", 1, message, None, error if error[0] else None)
    record.created = NOON
    record.__dict__.update(log_fields(**about))
    return logs.formatter(log_format).format(record)


@pytest.mark.parametrize(
    ("about", "end"),
    [
        pytest.param({}, "message=created rank=3", id="of-the-process"),
        pytest.param({"kind": "Pod"}, "message=created rank=3 run=a/b kind=Pod", id="of-the-task"),
        pytest.param({"why": 'two "words"\nhere'}, r'why="two \"words\"\nhere"', id="quoted"),
        pytest.param({"a": None, "b": "", "c": 0}, "run=a/b c=0", id="nothing-is-left-out"),
        pytest.param({"rank": 4}, "rank=4 run=a/b", id="the-line-itself-knows-best"),
        pytest.param({"logger": "no"}, "message=created rank=3 run=a/b", id="never-what-every-line-has"),
    ],
)
def test_logfmt(about: dict[str, object], end: str) -> None:
    with bind(run="a/b" if about else ""):
        said = line(LogFormat.LOGFMT, "created", **about)
    assert said.startswith("time=2026-01-31T12:00:00.250Z level=INFO logger=footplate.x message=created")
    assert said.endswith(end)


def test_json() -> None:
    with bind(run="a/b"):
        said = json.loads(line(LogFormat.JSON, "two\nlines", seconds=1.5))
    assert said == {
        "time": "2026-01-31T12:00:00.250Z",
        "level": "INFO",
        "logger": "footplate.x",
        "message": "two\nlines",
        "rank": 3,
        "run": "a/b",
        "seconds": 1.5,
    }


@pytest.mark.parametrize(
    ("log_format", "begins"),
    [
        pytest.param(LogFormat.LOGFMT, "time=2026-01-31T12:00:00.250Z level=ERROR", id="logfmt"),
        pytest.param(LogFormat.TEXT, "error: it broke\nTraceback", id="text"),
    ],
)
def test_a_traceback_stands_below_its_line(log_format: LogFormat, begins: str) -> None:
    try:
        raise OSError("no disk")
    except OSError:
        said = line(log_format, "it broke", logging.ERROR)
    assert said.startswith(begins) and said.endswith("\nOSError: no disk")


def test_a_traceback_is_one_member_of_a_json_line() -> None:
    try:
        raise OSError("no disk")
    except OSError:
        said = line(LogFormat.JSON, "it broke")
    assert json.loads(said)["exception"].endswith("OSError: no disk")
    assert json.loads(line(LogFormat.JSON, "it broke", exception="of another process")).get("exception")


@pytest.mark.parametrize("log_format", [LogFormat.LOGFMT, LogFormat.JSON])
@pytest.mark.parametrize("message", ["created", 'two "words"\nhere', "a=b", "ü\\"])
def test_the_message_of_a_line(log_format: LogFormat, message: str) -> None:
    assert logs.message_of(line(log_format, message, why="else")) == message
    assert logs.message_of(f"a rank printed {message}") == f"a rank printed {message}"


def test_a_person_reads_the_message_alone() -> None:
    assert line(LogFormat.TEXT, "step 1/5", seconds=1.5) == "step 1/5"
    assert line(LogFormat.TEXT, "no room", logging.WARNING) == "warning: no room"


def test_fields_end_with_their_block() -> None:
    with bind(run="a/b", uid="1"):
        with bind(uid="2"):
            assert "run=a/b uid=2" in line(LogFormat.LOGFMT, "within")
        assert "uid=1" in line(LogFormat.LOGFMT, "after it")
    assert "run=" not in line(LogFormat.LOGFMT, "outside")


def test_the_environment_chooses_the_format() -> None:
    assert logs.format_of({}) is LogFormat.LOGFMT
    assert logs.format_of({}, LogFormat.TEXT) is LogFormat.TEXT
    assert logs.format_of({"FOOTPLATE_LOG_FORMAT": "json"}, LogFormat.TEXT) is LogFormat.JSON
    with pytest.raises(ValueError, match="FOOTPLATE_LOG_FORMAT is 'xml'; must be one of logfmt, json, text"):
        logs.format_of({"FOOTPLATE_LOG_FORMAT": "xml"})
