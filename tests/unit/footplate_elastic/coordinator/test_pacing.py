"""How long the coordinator waits before it sends again, and who says so."""

from __future__ import annotations

import math

import pytest

from footplate_contracts.reports import TelemetryReceipt
from footplate_elastic.coordinator.telemetry_sender import next_batch_delay, parse_retry_after, retry_delay


@pytest.mark.parametrize(
    ("failures", "low", "high"),
    [
        pytest.param(1, 0.25, 0.5, id="first"),
        pytest.param(3, 1.0, 2.0, id="third"),
        pytest.param(50, 7.5, 15.0, id="late"),
    ],
)
def test_retries_double_and_are_spread(failures: int, low: float, high: float) -> None:
    assert (retry_delay(failures, 0.0), retry_delay(failures, 1.0)) == (low, high)


@pytest.mark.parametrize(
    ("told", "low", "high"),
    [
        pytest.param(2.0, 2.0, 3.0, id="never-less"),
        pytest.param(50.0, 50.0, 60.0, id="spread-up-to-a-minute"),
        pytest.param(3600.0, 60.0, 60.0, id="a-minute-at-most"),
    ],
)
def test_what_the_api_asks_for_comes_before_our_own_pace(told: float, low: float, high: float) -> None:
    for failures in (1, 50):
        assert (retry_delay(failures, 0.0, told), retry_delay(failures, 1.0, told)) == (low, high)


@pytest.mark.parametrize(
    ("status", "header", "told"),
    [
        pytest.param(503, "5", 5.0, id="busy"),
        pytest.param(429, "2", 2.0, id="too-many"),
        pytest.param(503, None, None, id="does-not-say"),
        pytest.param(500, "5", None, id="another-status"),
        pytest.param(503, "Fri, 31 Dec 1999 23:59:59 GMT", None, id="a-date"),
        pytest.param(503, "0", None, id="at-once-is-no-pace"),
        pytest.param(503, "-1", None, id="negative"),
        pytest.param(503, "nan", None, id="no-number"),
        pytest.param(503, "inf", None, id="for-ever"),
    ],
)
def test_only_whoever_is_busy_says_when_to_come_back(
    status: int, header: str | None, told: float | None
) -> None:
    assert parse_retry_after(status, header) == told


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        pytest.param(None, 0.5, id="as-we-like"),
        pytest.param(5.0, 5.0, id="asked"),
        pytest.param(0.0, 0.1, id="too-short"),
        pytest.param(3600.0, 30.0, id="too-long"),
        pytest.param(math.nan, 0.5, id="no-number"),
    ],
)
def test_the_next_batch_is_gathered_for_as_long_as_the_receipt_asks(
    asked: float | None, seconds: float
) -> None:
    assert next_batch_delay(TelemetryReceipt(rows=1, checkpoints=0, gather_seconds=asked)) == seconds


def test_without_a_receipt_the_pace_is_our_own() -> None:
    assert next_batch_delay(None) == 0.5
