"""Cursors survive the way through a URL; anything else is refused."""

from __future__ import annotations

import base64
import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import strategies as st

from footplate_api.errors import Invalid
from footplate_api.runs.pagination import Position, decode, encode
from tests.support.properties import given

UIDS = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=64)
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC))


@given(TIMES, UIDS)
def test_there_and_back(created_at: datetime, uid: str) -> None:
    cursor = encode(Position(created_at, uid))
    assert decode(cursor) == Position(created_at, uid)
    assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")


def test_a_zone_is_kept_as_the_instant() -> None:
    there = datetime(2026, 11, 25, 12, tzinfo=timezone(timedelta(hours=2)))
    assert decode(encode(Position(there, "uid"))).created_at == datetime(2026, 11, 25, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("", id="empty"),
        pytest.param("%%%", id="no-base64"),
        pytest.param("aGVsbG8", id="no-json"),
        pytest.param(base64.b64encode(b"[]").decode(), id="too-short"),
        pytest.param(base64.b64encode(b"[1, 2]").decode(), id="wrong-types"),
        pytest.param(base64.b64encode(b'["yesterday", "uid"]').decode(), id="no-time"),
        pytest.param(base64.b64encode(b'["2026-11-25T10:00:00Z", "\\u0000"]').decode(), id="no-uid"),
        pytest.param(base64.b64encode(b'["0001-01-01T00:00:00+14:00", "uid"]').decode(), id="before-time"),
    ],
)
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid, match="must be the nextCursor of the page before"):
        decode(cursor)
