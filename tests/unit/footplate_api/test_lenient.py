"""JSON of any release is read without an error: what is strange is absent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_api.serialization import tolerant_json


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param("2026-11-25T10:00:00Z", datetime(2026, 11, 25, 10, tzinfo=UTC), id="utc"),
        pytest.param("2026-11-25T11:00:00+01:00", datetime(2026, 11, 25, 10, tzinfo=UTC), id="another-zone"),
        pytest.param("2026-11-25T10:00:00", datetime(2026, 11, 25, 10, tzinfo=UTC), id="no-zone"),
        pytest.param("0001-01-01T00:00:00+14:00", None, id="before-the-calendar"),
        pytest.param("yesterday", None, id="no-time"),
        pytest.param(1_790_000_000, None, id="a-number"),
        pytest.param(None, None, id="null"),
    ],
)
def test_time(value: Any, read: datetime | None) -> None:
    assert tolerant_json.time_at({"at": value}, "at") == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param("Hang", "Hang", id="text"),
        pytest.param("a\0b", "ab", id="nul"),
        pytest.param("\ud800", "?", id="half-a-pair"),
        pytest.param("x" * 40, "x" * 32, id="too-long"),
        pytest.param(7, None, id="a-number"),
    ],
)
def test_text(value: Any, read: str | None) -> None:
    assert tolerant_json.text({"x": value}, "x") == read


@pytest.mark.parametrize("value", [None, {}, "x", 3], ids=str)
def test_no_list_has_no_items(value: Any) -> None:
    assert tolerant_json.items({"x": value}, "x") == []


def test_items_that_are_no_objects_are_left_out() -> None:
    assert tolerant_json.items({"x": [1, {"a": 1}, "b", None]}, "x") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param('{"a": [1, null, 0.5]}', {"a": [1, None, 0.5]}, id="json"),
        pytest.param(r'{"a": "\u0000"}', {"a": "\0"}, id="nul"),
        pytest.param(r'{"a": "\ud800"}', {"a": "\ud800"}, id="half-a-pair"),
        pytest.param('{"a": NaN}', {"a": pytest.approx(float("nan"), nan_ok=True)}, id="no-number"),
        pytest.param("[1]", {}, id="no-object"),
    ],
)
def test_parsed(text: str, read: dict[str, Any]) -> None:
    assert tolerant_json.parse_object(text) == read
