"""Cursors survive the way through a URL; anything else is refused, and so is one of another query."""

from __future__ import annotations

import base64
import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import strategies as st

from footplate_api.errors import Invalid
from footplate_api.runs.pagination import LONGEST, decode, encode
from footplate_api.runs.sort_order import CursorPosition, ListSegment, RunSort, split_list
from tests.support.properties import given

UIDS = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=64)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))
NAMES = st.text(string.ascii_lowercase + ".-", min_size=1, max_size=253)
THEN = datetime(2026, 11, 25, 10, tzinfo=UTC)
POSITION = CursorPosition((THEN, "uid"))
CURSOR = encode(POSITION, "query")
TRAINS, OVER = CursorPosition((None, THEN, "u")), CursorPosition((THEN, THEN, "u"))


@given(NAMES, TIMES, UIDS)
def test_there_and_back(name: str, time: datetime, uid: str) -> None:
    for sort, values in (
        (RunSort.NEWEST, (time, uid)),
        (RunSort.NAME, (name, time, uid)),
        (RunSort.ENDED_FIRST, (None, time, uid)),
        (RunSort.ENDED_LAST, (time, time, uid)),
    ):
        cursor = encode(CursorPosition(values), "query")
        assert decode(cursor, "query", sort) == CursorPosition(values)
        assert set(cursor) <= set(string.ascii_letters + string.digits + "-_") and len(cursor) <= LONGEST


def test_a_zone_is_kept_as_the_instant() -> None:
    there = datetime(2026, 11, 25, 12, tzinfo=timezone(timedelta(hours=2)))
    assert decode(encode(CursorPosition((there, "uid")), "q"), "q", RunSort.NEWEST).values[0] == THEN


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("", id="empty"),
        pytest.param("%%%", id="no-base64"),
        pytest.param("aGVsbG8", id="too-short"),
        pytest.param(base64.b64encode(b"[]" * 20).decode(), id="no-digest"),
        pytest.param(CURSOR[:-1], id="cut-off"),
        pytest.param(CURSOR + "A", id="longer"),
        pytest.param(encode(CursorPosition((THEN,)), "query"), id="too-few-values"),
        pytest.param(encode(CursorPosition(("yesterday", "uid")), "query"), id="no-time"),
        pytest.param(encode(CursorPosition((None, "uid")), "query"), id="no-time-at-all"),
        pytest.param(encode(CursorPosition((THEN, "a uid")), "query"), id="no-uid"),
        pytest.param(encode(CursorPosition((THEN, "a\0")), "query"), id="no-text"),
        pytest.param(encode(POSITION, "another query"), id="of-another-query"),
    ],
)
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode(cursor, "query", RunSort.NEWEST)
    assert refused.value.fields[0].field == "query.cursor"


@pytest.mark.parametrize("name", ["\ud800", "a\0", 7, None])
def test_a_name_that_no_database_takes_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode(encode(CursorPosition((name, THEN, "uid")), "query"), "query", RunSort.NAME)
    assert refused.value.fields[0].field == "query.cursor"


@given(st.integers(0, len(CURSOR) - 1), st.sampled_from(string.ascii_letters + string.digits + "-_"))
def test_a_cursor_that_was_changed_anywhere_is_refused(place: int, letter: str) -> None:
    changed = CURSOR[:place] + letter + CURSOR[place + 1 :]
    if changed != CURSOR:
        with pytest.raises(Invalid):
            decode(changed, "query", RunSort.NEWEST)


@pytest.mark.parametrize(
    ("sort", "after", "expected"),
    [
        pytest.param(RunSort.NAME, None, [(None, False)], id="one-walk"),
        pytest.param(RunSort.ENDED_LAST, None, [(False, False), (True, False)], id="those-that-train-first"),
        pytest.param(RunSort.ENDED_LAST, TRAINS, [(False, True), (True, False)], id="among-them"),
        pytest.param(RunSort.ENDED_LAST, OVER, [(True, True)], id="beyond-them"),
        pytest.param(RunSort.ENDED_FIRST, OVER, [(True, True), (False, False)], id="those-that-train-last"),
        pytest.param(RunSort.ENDED_FIRST, TRAINS, [(False, True)], id="only-they-are-left"),
    ],
)
def test_runs_that_have_not_ended_come_where_one_would_that_ends_last(
    sort: RunSort, after: CursorPosition | None, expected: list[tuple[bool | None, bool]]
) -> None:
    assert list(split_list(sort, after)) == [
        ListSegment(ended, after if goes_on else None) for ended, goes_on in expected
    ]
