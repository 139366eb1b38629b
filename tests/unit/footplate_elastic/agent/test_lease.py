"""Until when the ranks of a generation of one may begin steps."""

from __future__ import annotations

from footplate_elastic.agent.lease import GenerationLease
from footplate_elastic.protocol.wire import LEASE_SECONDS


def test_it_counts_from_when_the_question_was_put() -> None:
    lease = GenerationLease(0.0)
    assert lease.renew(3.0, members=1) and lease.until == 3.0 + LEASE_SECONDS


def test_answers_that_overtake_each_other_shorten_nothing() -> None:
    lease = GenerationLease(0.0)
    lease.renew(3.0, members=1)
    assert not lease.renew(1.0, members=1) and lease.until == 3.0 + LEASE_SECONDS


def test_ranks_are_told_about_once_a_second() -> None:
    lease = GenerationLease(0.0)
    told = [lease.renew(tenths / 10, members=1) for tenths in range(100)]
    assert 10 <= sum(told) <= 20


def test_several_hold_each_other_back() -> None:
    lease = GenerationLease(0.0)
    assert not lease.renew(3.0, members=2) and lease.until is None


def test_a_generation_that_has_grown_is_set_free() -> None:
    lease = GenerationLease(0.0)
    lease.renew(3.0, members=1)
    assert lease.renew(4.0, members=2) and lease.until is None
    assert not lease.renew(5.0, members=2)
