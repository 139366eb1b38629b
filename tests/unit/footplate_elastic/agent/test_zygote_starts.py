"""How often the imports of a trainer are tried, and what is made of it when they do not come through."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Cause
from footplate_elastic.agent.errors import ZygoteFailed, ZygoteGone
from footplate_elastic.agent.zygote_retries import TRIES, ZygoteRetryPolicy

KILLED = ZygoteGone(-9)
CRASHED = ZygoteGone(-11)
RAISED = ZygoteFailed("Traceback (most recent call last):\nModuleNotFoundError: No module named 'x'")
NO_MEMORY = ZygoteFailed("Traceback (most recent call last):\nMemoryError")


@pytest.mark.parametrize(
    ("ends", "out_of_memory", "cause", "reason"),
    [
        pytest.param([KILLED] * TRIES, False, Cause.COMMUNICATION, "RankKilled", id="killed"),
        pytest.param([ZygoteGone(1)] * TRIES, False, Cause.USER_ERROR, "PythonError", id="no word"),
        pytest.param([KILLED] * TRIES, True, Cause.OUT_OF_MEMORY, "OutOfMemory", id="killed for memory"),
        pytest.param([NO_MEMORY] * TRIES, False, Cause.OUT_OF_MEMORY, "OutOfMemory", id="no memory left"),
        pytest.param([CRASHED] * TRIES, False, Cause.USER_ERROR, "PythonError", id="crashes"),
        pytest.param([RAISED] * 2, False, Cause.IMAGE_OR_CONFIG, "ConfigRefused", id="raises"),
        pytest.param(
            [KILLED, RAISED, KILLED, RAISED], False, Cause.IMAGE_OR_CONFIG, "ConfigRefused", id="both"
        ),
    ],
)
def test_another_zygote_is_started_until_it_is_sure_why_none_comes_through(
    ends: list[ZygoteGone | ZygoteFailed], out_of_memory: bool, cause: Cause, reason: str
) -> None:
    starts = ZygoteRetryPolicy()
    for end in ends:
        assert starts.should_retry
        starts.record_end(end, out_of_memory)
    assert not starts.should_retry
    failure = starts.failure(ends[-1], now=1.0)
    assert (failure.cause, failure.reason) == (cause, reason)
    assert str(ends[-1]) in failure.message


def test_the_pause_before_another_zygote_grows() -> None:
    starts, pauses = ZygoteRetryPolicy(), []
    while starts.should_retry:
        starts.record_end(KILLED, out_of_memory=False)
        pauses.append(starts.pause)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
