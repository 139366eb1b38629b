"""How long to wait before the next try."""

from __future__ import annotations

import pytest

from footplate_contracts.backoff import backoff_seconds


@pytest.mark.parametrize(
    ("failures", "chance", "seconds"),
    [
        pytest.param(1, 0.0, 0.5, id="first"),
        pytest.param(3, 0.0, 2.0, id="doubling"),
        pytest.param(6, 0.0, 10.0, id="at-most"),
        pytest.param(10_000, 0.0, 10.0, id="for-hours"),
        pytest.param(3, 0.5, 3.0, id="spread"),
    ],
)
def test_backoff(failures: int, chance: float, seconds: float) -> None:
    assert backoff_seconds(failures, first=0.5, longest=10.0, jitter=(1.0, 2.0), chance=chance) == seconds
