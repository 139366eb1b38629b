"""For how long a body is waited for, and a connection kept."""

from __future__ import annotations

import pytest

from footplate_api.__main__ import KEEP_ALIVE_SECONDS
from footplate_api.http.body_timeouts import BodyTimeout
from footplate_api.metrics import batch_intervals


@pytest.mark.parametrize(
    ("last", "received", "deadline"),
    [
        pytest.param(0, 0, 10, id="nothing-yet"),
        pytest.param(1, 900, 11, id="fast-and-then-silent"),
        pytest.param(19, 950, 19.5, id="a-trickle"),
    ],
)
def test_silence_and_a_trickle_end(last: float, received: int, deadline: float) -> None:
    assert BodyTimeout(seconds=10, least=100).deadline(0, last, received) == deadline


def test_a_connection_outlasts_the_longest_pause_between_two_batches() -> None:
    assert KEEP_ALIVE_SECONDS > batch_intervals.LONGEST * (1 + batch_intervals.SPREAD)
