"""When an agent is held to be gone, and when it is rather us."""

from __future__ import annotations

from footplate_contracts.names import Cause
from footplate_elastic.coordinator import membership
from footplate_elastic.coordinator.actions import AgentArrived
from footplate_elastic.coordinator.failure_detector import heartbeat_wait_seconds
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.protocol import wire
from tests.unit.footplate_elastic.coordinator.story import Story, agent, failure


def test_the_end_of_a_connection_is_a_loss_after_a_tenth_of_a_second() -> None:
    story = Story()
    story.sealed()
    story.disconnect(0)
    story.at(0.06)
    assert story.lost() == []
    story.at(0.15)
    assert story.lost() == [0]
    assert story.rendezvous() is Rendezvous.OPEN


def test_a_connection_that_comes_back_at_once_is_no_loss() -> None:
    story = Story()
    story.sealed()
    story.disconnect(0)
    story.at(0.05)
    story.connect(0)
    story.at(1.0)
    assert story.rendezvous() is Rendezvous.SEALED


def test_a_word_well_after_the_end_of_the_connection_proves_life() -> None:
    story = Story()
    first = story.sealed()
    story.disconnect(0)
    story.at(0.08)
    story.beat(0, running=first)
    story.beats_until(1.0, [0, 1], first)
    assert story.rendezvous() is Rendezvous.SEALED


def test_the_last_words_of_a_dying_process_do_not() -> None:
    story = Story()
    first = story.sealed()
    story.disconnect(0)
    story.now = 0.01
    story.beat(0, running=first)
    story.at(0.2)
    assert story.lost() == [0]


def test_one_of_two_connections_may_end() -> None:
    story = Story()
    story.sealed()
    story.connect(0)
    story.disconnect(0)
    story.at(1.0)
    assert story.rendezvous() is Rendezvous.SEALED


def test_silence_is_a_loss_after_five_seconds() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(4.9, [0], first)
    assert story.lost() == []
    story.beats_until(5.5, [0], first)
    assert story.lost() == [1]


def test_an_agent_that_has_not_joined_yet_is_lost_no_later() -> None:
    story = Story()
    first = story.sealed()
    story.disconnect(1)
    story.beats_until(1.0, [0], first)
    story.join(0, last=first.generation)
    story.beat(1, incarnation=1)
    story.beats_until(6.5, [0], first)
    assert story.state.slots[1].lost


def test_a_survivors_report_makes_shorter_silence_suspect() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(3.0, [0, 1], first)
    story.join(0, last=first.generation, why=failure(Cause.COMMUNICATION))
    story.beat(0)
    story.at(3.55)
    assert story.lost() == []
    story.at(3.7)
    assert story.lost() == [1]


def test_a_survivor_that_takes_its_time_to_stop_its_ranks_speaks_often_enough_not_to_be_suspect() -> None:
    story = Story(nodes=3)
    first = story.sealed()
    assert heartbeat_wait_seconds(story.state, agent(1)) == wire.HEARTBEAT_SECONDS
    story.join(0, last=first.generation, why=failure(Cause.COMMUNICATION))
    assert heartbeat_wait_seconds(story.state, agent(0)) == wire.HEARTBEAT_SECONDS, "it has joined again"
    while story.now < 3.0:
        story.beat(0)
        story.beat(1, running=first)
        story.at(story.now + heartbeat_wait_seconds(story.state, agent(1)))
    assert story.lost() == [2]


def test_nobody_is_suspect_who_has_joined_again() -> None:
    story = Story(nodes=3)
    first = story.sealed()
    story.join(0, last=first.generation)
    story.join(1, last=first.generation)
    story.at(1.0)
    assert story.lost() == [2]


def test_without_a_report_silence_is_not_suspect() -> None:
    story = Story()
    story.sealed()
    story.disconnect(1)
    story.at(2.0)
    assert story.lost() == [1]


def test_a_coordinator_that_hears_fewer_than_half_suspects_itself() -> None:
    story = Story(nodes=3)
    first = story.sealed()
    story.beats_until(60.0, [0], first)
    assert story.lost() == []
    assert story.rendezvous() is Rendezvous.SEALED


def test_whom_a_network_brings_back_second_is_not_lost_meanwhile() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(60.0, [], first)
    story.beats_until(65.0, [0], first)
    story.beats_until(70.0, [0, 1], first)
    assert story.lost() == []
    assert story.rendezvous() is Rendezvous.SEALED


def test_who_stays_silent_after_it_is_lost_five_seconds_later() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(60.0, [], first)
    story.beats_until(65.0, [0], first)
    assert story.lost() == []
    story.beats_until(66.0, [0], first)
    assert story.lost() == [1]


def test_an_own_pause_is_not_the_silence_of_the_agents() -> None:
    story = Story()
    first = story.sealed()
    story.at(1.0)
    story.now = 31.0  # the coordinator was frozen for half a minute
    story.beat(0, running=first)
    story.said += membership.tick(story.state, story.now)
    assert story.lost() == []
    story.beats_until(34.0, [0, 1], first)
    assert story.rendezvous() is Rendezvous.SEALED


def test_an_agent_that_speaks_again_is_back() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(6.0, [0], first)
    assert story.state.missing() == [1]
    story.beat(1, running=first)
    assert story.state.missing() == []
    story.join(0, last=first.generation)
    story.join(1, last=first.generation)
    assert story.rendezvous() is Rendezvous.SEALED


def test_who_comes_and_who_comes_back_is_news() -> None:
    story = Story()
    story.sealed()
    story.said.clear()
    story.leave(1)
    story.beat(1)
    story.beat(1)
    assert [action.agent.index for action in story.said if isinstance(action, AgentArrived)] == [1]


def test_an_agent_that_leaves_is_lost_at_once_and_only_once() -> None:
    story = Story()
    story.sealed()
    story.leave(1)
    story.disconnect(1)
    story.at(1.0)
    assert story.lost() == [1]
    assert story.state.missing() == [1]


def test_agents_that_never_joined_can_be_lost_without_blame() -> None:
    story = Story()
    story.connect(0)
    story.disconnect(0)
    story.at(1.0)
    assert story.lost() == []
    assert story.state.missing() == [0, 1]
