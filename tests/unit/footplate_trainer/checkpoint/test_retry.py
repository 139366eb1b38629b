"""What follows a try to save that failed."""

from __future__ import annotations

import pytest

from footplate_trainer.checkpoint.durable.retry import (
    WAIT_SECONDS,
    RetryAction,
    SaveFailures,
    WaitReason,
    retry_delay,
)

HOUR = 3600.0


@pytest.mark.parametrize(
    ("waits", "waited", "failing", "hopeless", "expected"),
    [
        pytest.param(WaitReason.NOT, 0.0, 0.0, False, RetryAction.AGAIN, id="the-first-failure"),
        pytest.param(WaitReason.NOT, 0.0, HOUR - 1, False, RetryAction.AGAIN, id="for-nearly-an-hour"),
        pytest.param(WaitReason.NOT, 0.0, HOUR, False, RetryAction.FAIL, id="for-an-hour"),
        pytest.param(WaitReason.FOR_ROOM, 5.0, 60.0, False, RetryAction.LEAVE_OUT, id="the-next-is-due"),
        pytest.param(
            WaitReason.FOR_ROOM, 5.0, HOUR, False, RetryAction.FAIL, id="the-next-is-due-after-an-hour"
        ),
        pytest.param(
            WaitReason.FOR_THE_END, 5.0, 2 * HOUR, False, RetryAction.AGAIN, id="the-last-has-its-own-time"
        ),
        pytest.param(WaitReason.FOR_THE_END, WAIT_SECONDS, 0.0, False, RetryAction.FAIL, id="and-no-more"),
        pytest.param(WaitReason.NOT, 0.0, 0.0, True, RetryAction.FAIL, id="it-lasts-and-nothing-is-durable"),
    ],
)
def test_what_follows(
    waits: WaitReason, waited: float, failing: float, hopeless: bool, expected: RetryAction
) -> None:
    failures = SaveFailures()
    failures.next_action(WaitReason.NOT, 0.0, now=1000.0, bound=HOUR, hopeless=False)
    assert failures.next_action(waits, waited, 1000.0 + failing, HOUR, hopeless) is expected


def test_a_shorter_bound_holds_for_the_last_one_too() -> None:
    assert (
        SaveFailures().next_action(WaitReason.FOR_THE_END, 10.0, 0.0, bound=10.0, hopeless=False)
        is RetryAction.FAIL
    )


def test_what_is_durable_begins_anew() -> None:
    failures = SaveFailures()
    failures.next_action(WaitReason.NOT, 0.0, now=0.0, bound=HOUR, hopeless=False)
    failures.count_skipped()
    failures.reset()
    assert failures.left_out == 0
    assert (
        failures.next_action(WaitReason.NOT, 0.0, now=HOUR, bound=HOUR, hopeless=False) is RetryAction.AGAIN
    )


def test_pauses_grow_and_are_shorter_where_training_waits() -> None:
    assert [retry_delay(tries, WaitReason.NOT) for tries in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 30.0]
    assert retry_delay(9, WaitReason.FOR_THE_END) == 5.0
