"""A coordinator that has more work than processor: what it hears late was not said late."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Cause, WorkerId
from footplate_contracts.rendezvous import SealedGeneration
from footplate_elastic.coordinator import membership
from footplate_elastic.coordinator.state import Rendezvous
from tests.unit.footplate_elastic.coordinator.story import Story, failure


def busy(story: Story, seconds: float, tick: float = 0.45) -> Story:
    """So much time passes, with a tick now and then only."""
    until = story.now + seconds
    while story.now < until - 1e-9:
        story.now = min(until, story.now + tick)
        story.said += membership.tick(story.state, story.now)
    return story


def sealed(nodes: int = 3) -> tuple[Story, SealedGeneration]:
    story = Story(nodes)
    return story, story.sealed()


def test_nobody_is_lost_whose_words_wait_for_us() -> None:
    story, first = sealed()
    for second in range(90):
        busy(story, 1.0)
        for index in (0, 1, 2) if second % 9 == 0 else (0, 1):
            story.beat(index, running=first)
    assert story.rendezvous() is Rendezvous.SEALED and not story.lost()


def test_nobody_is_lost_whose_questions_were_given_up_before_we_read_them() -> None:
    story, first = sealed()
    for second in range(120):
        busy(story, 1.0, 0.9)
        for index in (0, 1, 2) if second % 40 == 0 else (0, 1):
            story.beat(index, running=first)
    assert story.rendezvous() is Rendezvous.SEALED and not story.lost()


def late_without_a_word_of_one() -> tuple[Story, SealedGeneration]:
    story, first = sealed()
    for _ in range(20):
        busy(story, 1.0, 0.9)
        for index in (0, 1):
            story.beat(index, running=first)
    assert not story.lost()
    return story, first


def test_whoever_is_gone_is_missed_once_we_are_on_time_again() -> None:
    story, first = late_without_a_word_of_one()
    story.beats_until(story.now + 10.0, [0, 1], first)
    assert story.lost() == [2]


def test_or_when_kubernetes_misses_it_too() -> None:
    story, _ = late_without_a_word_of_one()
    story.state.gone = frozenset({WorkerId(2, 0)})
    busy(story, 0.5)
    assert story.lost() == [2]


@pytest.mark.parametrize("tick", [0.25, 0.45, 2.0])
def test_a_connection_that_was_given_up_since_we_did_not_answer_is_opened_again(tick: float) -> None:
    story, _ = sealed()
    busy(story, 3.0, tick)
    story.disconnect(1)
    busy(story, max(1.0, 2 * tick), tick)
    story.connect(1)
    busy(story, 3.0, tick)
    assert story.rendezvous() is Rendezvous.SEALED and not story.lost()


def test_where_it_is_not_opened_again_it_has_ended_with_its_process() -> None:
    story, _ = sealed()
    busy(story, 3.0)
    story.disconnect(1)
    busy(story, 10.0)
    assert story.lost() == [1]


def test_a_moment_after_we_were_late_the_end_of_a_connection_is_as_good_as_ever() -> None:
    story, first = sealed()
    busy(story, 3.0)
    story.beats_until(story.now + 6.0, [0, 1, 2], first)
    story.disconnect(1)
    story.at(story.now + 0.2)
    assert story.lost() == [1]


def test_a_report_of_others_makes_nobody_suspect_meanwhile() -> None:
    story, first = sealed()
    busy(story, 3.0)
    story.join(0, last=first.generation, why=failure(Cause.COMMUNICATION))
    busy(story, 4.0)
    assert not story.lost()


def test_the_moment_of_a_long_pause_loses_nobody() -> None:
    story, first = sealed()
    story.disconnect(1)
    busy(story, 30.0, 30.0)
    assert not story.lost()
    story.connect(1)
    story.beats_until(story.now + 10.0, [0, 1, 2], first)
    assert story.rendezvous() is Rendezvous.SEALED
