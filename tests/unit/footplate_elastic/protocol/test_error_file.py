"""The file that a failed rank leaves behind, as every release and torch itself write it."""

from __future__ import annotations

import json

import pytest

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_elastic.protocol import error_file

REPORT = FailureReport(
    cause=Cause.STORAGE, reason=Reason.STORAGE_FULL, message="full", rank=1, step=7, time=3.5
)


def test_what_a_rank_wrote_is_what_its_agent_reads() -> None:
    text = error_file.content(REPORT, "Traceback: half of a pair \ud83d")
    assert error_file.read(text, 9.0) == REPORT


def test_agents_of_torch_find_their_keys() -> None:
    message = json.loads(error_file.content(REPORT, "Traceback"))["message"]
    assert message == {"message": "full", "extraInfo": {"py_callstack": "Traceback", "timestamp": "3"}}


def test_the_file_of_a_newer_release_is_read() -> None:
    newer = REPORT.to_json() | {"cause": "Sunspots", "region": "north"}
    read = error_file.read(json.dumps({"version": 2, "message": "m", "failure": newer}), 9.0)
    assert read is not None and (read.cause, read.reason, read.step) == (Cause.USER_ERROR, "StorageFull", 7)


@pytest.mark.parametrize(
    ("message", "expected", "time"),
    [
        pytest.param({"message": "KeyError", "extraInfo": {"timestamp": "7"}}, "KeyError", 7.0, id="torch"),
        pytest.param({"message": "KeyError"}, "KeyError", 9.0, id="without-a-time"),
        pytest.param("KeyError", "KeyError", 9.0, id="a-bare-text"),
        pytest.param({"message": "half \ud83d"}, "half ?", 9.0, id="half-of-a-pair"),
        pytest.param({"message": "x" * 2000}, "…" + "x" * 1023, 9.0, id="long"),
    ],
)
def test_words_of_a_program_that_does_not_know_us(message: object, expected: str, time: float) -> None:
    read = error_file.read(json.dumps({"message": message}), 9.0)
    assert read is not None
    assert (read.cause, read.reason, read.message, read.time) == (
        Cause.USER_ERROR,
        Reason.PYTHON_ERROR,
        expected,
        time,
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param('{"failure": {"cau', id="torn"),
        pytest.param("[]", id="a-list"),
        pytest.param('{"failure": 3}', id="a-number"),
        pytest.param('{"message": {"extraInfo": []}}', id="odd-keys-of-torch"),
        pytest.param('{"message": {"extraInfo": {"timestamp": "soon"}}}', id="odd-time"),
    ],
)
def test_anything_else_says_nothing(text: str) -> None:
    assert error_file.read(text, 9.0) is None
