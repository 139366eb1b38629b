"""Work behind the step: one piece at a time, and whoever waits gets its error."""

from __future__ import annotations

import threading

import pytest

from footplate_trainer.background import OneInFlight


def fail() -> None:
    raise OSError("the disk is gone")


def test_the_next_piece_waits_for_the_one_before() -> None:
    work, may_end, order = OneInFlight("test"), threading.Event(), list[str]()

    def first() -> None:
        may_end.wait()
        order.append("first")

    work.start(first)
    assert not work.failed
    may_end.set()
    work.start(lambda: order.append("second"))
    work.finish()

    assert order == ["first", "second"]


def test_an_error_is_seen_at_once_and_raised_once() -> None:
    work = OneInFlight("test")
    work.start(fail)
    for thread in threading.enumerate():
        if thread.name == "test":  # where it is not over already
            thread.join()

    assert work.failed
    with pytest.raises(OSError, match="the disk is gone"):
        work.finish()
    assert not work.failed
    work.finish()


def test_the_next_piece_does_not_begin_where_the_one_before_failed() -> None:
    work, begun = OneInFlight("test"), list[str]()
    work.start(fail)

    with pytest.raises(OSError, match="the disk is gone"):
        work.start(lambda: begun.append("second"))

    assert begun == []
