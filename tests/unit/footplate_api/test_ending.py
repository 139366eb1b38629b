"""When a run ended, by what its status says, a deletion, or the last sign of its life."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_api.registry.end_time import NOT_ENDED, RunEnd, end_from_status, end_of_deleted, end_of_missing


def at(hour: int) -> datetime:
    return datetime(2026, 11, 25, hour, tzinfo=UTC)


def text(hour: int) -> str:
    return f"2026-11-25T{hour:02}:00:00Z"


@pytest.mark.parametrize(
    ("status", "end"),
    [
        pytest.param({}, NOT_ENDED, id="no-status"),
        pytest.param({"phase": "Running", "completionTime": text(9)}, NOT_ENDED, id="trains"),
        pytest.param({"phase": "Succeeded", "completionTime": text(9)}, RunEnd(at(9), False), id="succeeded"),
        pytest.param(
            {"phase": "Failed", "lastTransitionTime": text(8)}, RunEnd(at(8), True), id="no-completion-time"
        ),
        pytest.param({"phase": "Failed", "completionTime": "?"}, RunEnd(at(1), True), id="no-time-at-all"),
        pytest.param({"phase": "Retired", "completionTime": text(9)}, RunEnd(at(9), False), id="newer-phase"),
        pytest.param({"phase": "Dreaming"}, NOT_ENDED, id="newer-phase-that-goes-on"),
        pytest.param({"phase": ["x"]}, NOT_ENDED, id="no-phase"),
    ],
)
def test_told(status: dict[str, Any], end: RunEnd) -> None:
    assert end_from_status(at(1), status) == end


@pytest.mark.parametrize(
    ("known", "metadata", "end"),
    [
        pytest.param(RunEnd(at(9), False), {"deletionTimestamp": text(10)}, RunEnd(at(9), False), id="ended"),
        pytest.param(NOT_ENDED, {"deletionTimestamp": text(10)}, RunEnd(at(10), False), id="asked-for"),
        pytest.param(NOT_ENDED, {}, RunEnd(at(11), False), id="heard-of"),
    ],
)
def test_deleted(known: RunEnd, metadata: dict[str, Any], end: RunEnd) -> None:
    assert end_of_deleted(known, {"metadata": metadata}, at(11)) == end


@pytest.mark.parametrize(
    ("known", "last_row", "end"),
    [
        pytest.param(RunEnd(at(9), False), at(10), RunEnd(at(9), False), id="known-already"),
        pytest.param(RunEnd(at(2), True), at(10), RunEnd(at(10), True), id="an-estimate-that-moves"),
        pytest.param(NOT_ENDED, None, RunEnd(at(8), True), id="status-alone"),
        pytest.param(NOT_ENDED, at(3), RunEnd(at(8), True), id="row-is-older"),
        pytest.param(NOT_ENDED, at(23), RunEnd(at(12), True), id="a-clock-that-is-ahead"),
    ],
)
def test_missing(known: RunEnd, last_row: datetime | None, end: RunEnd) -> None:
    assert end_of_missing(known, at(1), {"lastTransitionTime": text(8)}, last_row, at(12)) == end
