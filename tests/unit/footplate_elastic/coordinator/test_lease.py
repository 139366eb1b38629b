"""A generation of one: nobody trains in its place before it is known to have stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from footplate_contracts.directives import Command
from footplate_contracts.names import WorkerId
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator import membership
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.protocol.wire import LEASE_SECONDS
from tests.unit.footplate_elastic.coordinator.story import Story, failure, sealed_by_hand


def alone(epoch: int = 1) -> Story:
    """Worker 0 trains, and worker 1 waits for the next generation; worker 0 is not heard from now on."""
    story = Story(nodes=1, epoch=epoch)
    story.sealed()
    story.resize(2, least=1)
    story.beat(0, running=story.state.sealed, step=1)
    story.connect(1)
    story.join(1)
    story.kinds()
    return story


def test_whoever_waits_goes_on_once_it_must_have_stopped() -> None:
    story = alone()
    story.beats_until(LEASE_SECONDS - 0.1, [1])
    assert story.lost() == [0] and story.rendezvous() is Rendezvous.OPEN
    story.beats_until(LEASE_SECONDS + 0.5, [1])
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [1]


def _joins_again(story: Story) -> None:
    story.join(0, last=story.state.generation, why=failure())


@pytest.mark.parametrize(
    "tell",
    [
        pytest.param(lambda story: story.leave(0), id="says-goodbye"),
        pytest.param(_joins_again, id="joins-again"),
        pytest.param(lambda story: story.beat(0, running=story.state.sealed, why=failure()), id="explains"),
        pytest.param(
            lambda story: membership.mark_ended(story.state, [WorkerId(0, 0)]), id="its-pod-has-ended"
        ),
    ],
)
def test_nobody_is_waited_for_who_is_known_to_have_stopped(tell: Callable[[Story], None]) -> None:
    story = alone()
    tell(story)
    story.beats_until(16.0, [1])
    assert "GenerationStarted" in story.kinds() and 1 in story.members()


def test_a_substitute_of_it_is_no_proof() -> None:
    story = alone()
    story.at(6.0)
    story.beat(1)
    story.join(0, incarnation=1)
    story.beats_until(LEASE_SECONDS - 0.1, [1])
    assert story.rendezvous() is Rendezvous.OPEN


def test_of_a_larger_generation_those_who_are_here_are_enough() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.join(1, incarnation=1)
    assert story.rendezvous() is Rendezvous.SEALED


def test_a_successor_adopts_a_generation_of_one_and_waits_for_it_as_well() -> None:
    story = Story(nodes=1, epoch=2)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0,))
    story.beat(0, running=running)
    assert story.rendezvous() is Rendezvous.SEALED
    story.resize(2, least=1)
    story.join(1)
    story.beats_until(LEASE_SECONDS - 0.1, [1])
    assert story.rendezvous() is Rendezvous.OPEN


def test_fewer_do_not_go_on_where_a_successor_may_have_gathered_the_others() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.state.polled = story.now
    story.lose(1)
    story.beats_until(30.0, [0])
    assert story.rendezvous() is Rendezvous.OPEN
    story.state.polled = story.now
    story.beats_until(31.0, [0])
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0]


def test_all_go_on_whatever_became_of_the_operator() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.state.polled = story.now
    story.beats_until(30.0, [0, 1])
    for index in (0, 1):
        story.join(index, last=story.state.generation, why=failure())
    assert story.rendezvous() is Rendezvous.SEALED


@pytest.mark.parametrize(
    ("harm", "unheard"),
    [
        pytest.param(lambda story: story.lose(1), False, id="one-of-two-tells"),
        pytest.param(lambda story: [story.disconnect(index) for index in (0, 1)], True, id="nobody-tells"),
    ],
)
def test_a_suspension_says_whether_somebody_told_how_far_the_ranks_came(
    harm: Callable[[Story], object], unheard: bool
) -> None:
    story = Story(nodes=2)
    story.sealed()
    harm(story)
    story.at(story.now + 1.0)
    story.command(Command.CHECKPOINT_AND_EXIT)
    assert story.rendezvous() is Rendezvous.CLOSED
    assert story.state.unheard is unheard
