"""When a coordinator that does not answer is tried again."""

from __future__ import annotations

import pytest

from footplate_operator.trainingrun.coordinator_client import next_retry


@pytest.mark.parametrize(
    ("retry", "followed", "following"),
    [
        pytest.param(0.2, 0.0, 0.3, id="later-and-later"),
        pytest.param(1.0, 19.9, 1.0, id="not-much-later-while-it-starts"),
        pytest.param(1.0, 20.0, 1.5, id="later-once-it-should-have-started"),
        pytest.param(5.0, 60.0, 5.0, id="not-later-than-this"),
    ],
)
def test_a_coordinator_is_tried_again(retry: float, followed: float, following: float) -> None:
    assert next_retry(retry, followed) == pytest.approx(following)
