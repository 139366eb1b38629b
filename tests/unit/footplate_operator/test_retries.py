"""When a coordinator that does not answer is tried again."""

from __future__ import annotations

import pytest

from footplate_operator.trainingrun.coordinator_client import retry_delay


@pytest.mark.parametrize(
    ("failures", "followed", "seconds"),
    [
        pytest.param(1, 0.0, 0.2, id="soon"),
        pytest.param(2, 0.2, 0.3, id="later-and-later"),
        pytest.param(25, 19.9, 1.0, id="not-much-later-while-it-starts"),
        pytest.param(26, 21.5, 1.5, id="later-once-it-should-have-started"),
        pytest.param(40, 60.0, 5.0, id="not-later-than-this"),
    ],
)
def test_a_coordinator_is_tried_again(failures: int, followed: float, seconds: float) -> None:
    assert retry_delay(failures, followed) == pytest.approx(seconds)
