"""Who is sealed into a generation, in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator import membership
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.protocol.wire import AgentRefusal
from tests.unit.footplate_elastic.coordinator.story import Story, agent, failure, sealed_by_hand


def test_the_first_generation_is_sealed_when_every_slot_has_joined() -> None:
    story = Story(nodes=3)
    story.join(2)
    story.join(0)
    assert story.rendezvous() is Rendezvous.OPEN
    story.join(1)
    sealed = story.state.sealed
    assert sealed is not None and sealed.generation == GenerationId(epoch=1, number=1)
    assert [(m.agent.index, m.group_rank, m.first_rank) for m in sealed.members] == [
        (0, 0, 0),
        (1, 1, 2),
        (2, 2, 4),
    ]
    assert sealed.world_size == 6


def test_a_substitute_takes_the_ranks_of_the_one_it_replaces() -> None:
    story = Story(nodes=3)
    first = story.sealed()
    story.join(0, incarnation=1)
    story.join(1, last=first.generation)
    story.join(2, last=first.generation)
    second = story.state.sealed
    assert second is not None and second.generation == GenerationId(epoch=1, number=2)
    assert [(m.agent.incarnation, m.first_rank) for m in second.members] == [(1, 0), (0, 2), (0, 4)]


def test_the_seal_is_held_while_a_live_member_has_not_joined_again() -> None:
    story = Story()
    first = story.sealed()
    story.join(1, incarnation=1)
    story.beats_until(4.0, [0], first)
    assert story.rendezvous() is Rendezvous.OPEN
    story.join(0, last=first.generation)
    assert story.rendezvous() is Rendezvous.SEALED


def test_an_agent_that_died_while_it_waited_is_not_sealed() -> None:
    story = Story()
    story.connect(0)
    story.join(0)
    story.disconnect(0)
    story.join(1)
    assert story.rendezvous() is Rendezvous.OPEN
    story.at(0.2)
    assert story.state.missing() == [0]
    story.join(0, incarnation=1)
    assert story.rendezvous() is Rendezvous.SEALED


def test_a_seal_never_holds_an_agent_that_has_been_silent_too_long() -> None:
    story = Story()
    story.join(0)
    story.at(6.0)
    story.join(1)
    assert story.rendezvous() is Rendezvous.OPEN


def test_a_join_whose_answer_was_lost_is_answered_again_and_breaks_nothing() -> None:
    story = Story()
    story.join(0, port=50)
    story.join(1)
    story.kinds()
    story.join(0, port=50)
    assert story.kinds() == []
    assert story.rendezvous() is Rendezvous.SEALED


def test_a_join_by_a_member_is_a_failure_report() -> None:
    story = Story()
    first = story.sealed()
    story.kinds()
    story.join(0, last=first.generation, why=failure())
    assert story.kinds() == ["NumberedFailure", "RendezvousOpened"]


def test_a_join_with_another_port_is_a_failure_report_even_if_it_names_no_generation() -> None:
    story = Story()
    story.sealed()
    story.join(0, last=None)
    assert story.rendezvous() is Rendezvous.OPEN


def test_a_late_copy_of_an_old_join_does_not_replace_the_newer_one() -> None:
    story = Story()
    first = story.sealed()
    story.join(0, last=first.generation, port=77)
    story.join(0, last=None, port=55)
    story.join(1, last=first.generation)
    assert story.state.sealed is not None
    assert story.state.sealed.members[0].store_port == 77


def test_joining_twice_in_the_same_rendezvous_counts_once() -> None:
    story = Story()
    story.join(0, port=1)
    story.join(0, port=2)
    assert story.rendezvous() is Rendezvous.OPEN
    story.join(1)
    assert story.state.sealed is not None and story.state.sealed.members[0].store_port == 2


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(lambda story: story.join(1, incarnation=1), id="join"),
        pytest.param(lambda story: story.beat(1, incarnation=1), id="heartbeat"),
        pytest.param(lambda story: story.connect(1, incarnation=1), id="connection"),
    ],
)
def test_any_word_of_a_newer_incarnation_evicts_the_older_and_opens(speak: Callable[[Story], object]) -> None:
    story = Story()
    story.sealed()
    story.kinds()
    speak(story)
    assert story.kinds() == ["AgentEvicted", "MemberLost", "RendezvousOpened"]
    assert story.beat(1) is AgentRefusal.EVICTED
    assert story.join(1) is AgentRefusal.EVICTED


def test_the_end_of_an_evicted_connection_says_nothing_about_its_successor() -> None:
    story = Story()
    story.sealed()
    story.connect(1, incarnation=1)
    story.join(0, last=story.state.generation)
    story.join(1, incarnation=1)
    story.disconnect(1, incarnation=0)
    story.leave(1, incarnation=0)
    story.at(0.5)
    assert story.rendezvous() is Rendezvous.SEALED


def test_an_older_incarnation_than_that_of_an_adopted_member_is_evicted() -> None:
    story = Story(epoch=2)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 4))
    story.beat(0, running=running)
    assert story.beat(1, incarnation=3) is None
    story.beat(1, incarnation=4, running=running)
    assert story.rendezvous() is Rendezvous.SEALED
    assert story.beat(1, incarnation=3) is AgentRefusal.EVICTED


def test_an_agent_of_another_shape_is_told_what_would_be_right() -> None:
    stranger = agent(0).model_copy(update={"local_world_size": 4})
    with pytest.raises(ValueError, match="slots is 4, but this run has 2 ranks per node"):
        membership.handle_message(Story().state, stranger, 0.0)
