"""What follows a try to save that failed."""

from __future__ import annotations

import pytest

from footplate_trainer.checkpoint.durable.retry import WAIT_SECONDS, FailedSaves, Next, Waits, pause

HOUR = 3600.0


@pytest.mark.parametrize(
    ("waits", "waited", "failing", "hopeless", "expected"),
    [
        pytest.param(Waits.NOT, 0.0, 0.0, False, Next.AGAIN, id="the-first-failure"),
        pytest.param(Waits.NOT, 0.0, HOUR - 1, False, Next.AGAIN, id="for-nearly-an-hour"),
        pytest.param(Waits.NOT, 0.0, HOUR, False, Next.FAIL, id="for-an-hour"),
        pytest.param(Waits.FOR_ROOM, 5.0, 60.0, False, Next.LEAVE_OUT, id="the-next-is-due"),
        pytest.param(Waits.FOR_ROOM, 5.0, HOUR, False, Next.FAIL, id="the-next-is-due-after-an-hour"),
        pytest.param(Waits.FOR_THE_END, 5.0, 2 * HOUR, False, Next.AGAIN, id="the-last-has-its-own-time"),
        pytest.param(Waits.FOR_THE_END, WAIT_SECONDS, 0.0, False, Next.FAIL, id="and-no-more"),
        pytest.param(Waits.NOT, 0.0, 0.0, True, Next.FAIL, id="it-lasts-and-nothing-is-durable"),
    ],
)
def test_what_follows(waits: Waits, waited: float, failing: float, hopeless: bool, expected: Next) -> None:
    failures = FailedSaves()
    failures.follows(Waits.NOT, 0.0, now=1000.0, bound=HOUR, hopeless=False)
    assert failures.follows(waits, waited, 1000.0 + failing, HOUR, hopeless) is expected


def test_a_shorter_bound_holds_for_the_last_one_too() -> None:
    assert FailedSaves().follows(Waits.FOR_THE_END, 10.0, 0.0, bound=10.0, hopeless=False) is Next.FAIL


def test_what_is_durable_begins_anew() -> None:
    failures = FailedSaves()
    failures.follows(Waits.NOT, 0.0, now=0.0, bound=HOUR, hopeless=False)
    failures.leave_out()
    failures.mended()
    assert failures.left_out == 0
    assert failures.follows(Waits.NOT, 0.0, now=HOUR, bound=HOUR, hopeless=False) is Next.AGAIN


def test_pauses_grow_and_are_shorter_where_training_waits() -> None:
    assert [pause(tries, Waits.NOT) for tries in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 30.0]
    assert pause(9, Waits.FOR_THE_END) == 5.0
