"""Every rule of the membership, and the orders of events that once broke one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from footplate_contracts.names import Cause
from footplate_contracts.reports import Command, GenerationId, RunState
from footplate_trainer.coordinator import membership
from footplate_trainer.coordinator.actions import Arrived
from footplate_trainer.coordinator.places import answered_by
from footplate_trainer.coordinator.state import Refusal, Stage
from footplate_trainer.coordinator.timing import hold_seconds
from tests.unit.footplate_trainer.coordinator.story import Story, agent, failure, sealed_by_hand

OLD = sealed_by_hand(GenerationId(epoch=1, number=3))


# -- sealing -------------------------------------------------------------------------


def test_the_first_generation_is_sealed_when_every_place_has_joined() -> None:
    story = Story(nodes=3)
    story.join(2)
    story.join(0)
    assert story.stage() is Stage.OPEN
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
    assert story.stage() is Stage.OPEN
    story.join(0, last=first.generation)
    assert story.stage() is Stage.SEALED


def test_an_agent_that_died_while_it_waited_is_not_sealed() -> None:
    story = Story()
    story.plug(0)
    story.join(0)
    story.unplug(0)
    story.join(1)
    assert story.stage() is Stage.OPEN
    story.at(0.2)
    assert story.state.missing() == [0]
    story.join(0, incarnation=1)
    assert story.stage() is Stage.SEALED


def test_a_seal_never_holds_an_agent_that_has_been_silent_too_long() -> None:
    story = Story()
    story.join(0)
    story.at(6.0)
    story.join(1)
    assert story.stage() is Stage.OPEN


# -- joins that come twice or late ---------------------------------------------------------


def test_a_join_whose_answer_was_lost_is_answered_again_and_breaks_nothing() -> None:
    story = Story()
    story.join(0, port=50)
    story.join(1)
    story.kinds()
    story.join(0, port=50)
    assert story.kinds() == []
    assert story.stage() is Stage.SEALED


def test_a_join_by_a_member_is_a_failure_report() -> None:
    story = Story()
    first = story.sealed()
    story.kinds()
    story.join(0, last=first.generation, why=failure())
    assert story.kinds() == ["Blamed", "Opened"]


def test_a_join_with_another_port_is_a_failure_report_even_if_it_names_no_generation() -> None:
    story = Story()
    story.sealed()
    story.join(0, last=None)
    assert story.stage() is Stage.OPEN


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
    assert story.stage() is Stage.OPEN
    story.join(1)
    assert story.state.sealed is not None and story.state.sealed.members[0].store_port == 2


# -- incarnations -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(lambda story: story.join(1, incarnation=1), id="join"),
        pytest.param(lambda story: story.beat(1, incarnation=1), id="heartbeat"),
        pytest.param(lambda story: story.plug(1, incarnation=1), id="connection"),
    ],
)
def test_any_word_of_a_newer_incarnation_evicts_the_older_and_opens(speak: Callable[[Story], object]) -> None:
    story = Story()
    story.sealed()
    story.kinds()
    speak(story)
    assert story.kinds() == ["Evicted", "Lost", "Opened"]
    assert story.beat(1) is Refusal.EVICTED
    assert story.join(1) is Refusal.EVICTED


def test_the_end_of_an_evicted_connection_says_nothing_about_its_successor() -> None:
    story = Story()
    story.sealed()
    story.plug(1, incarnation=1)
    story.join(0, last=story.state.generation)
    story.join(1, incarnation=1)
    story.unplug(1, incarnation=0)
    story.leave(1, incarnation=0)
    story.at(0.5)
    assert story.stage() is Stage.SEALED


def test_an_older_incarnation_than_that_of_an_adopted_member_is_evicted() -> None:
    story = Story(epoch=2)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 4))
    story.beat(0, running=running)
    assert story.beat(1, incarnation=3) is None
    story.beat(1, incarnation=4, running=running)
    assert story.stage() is Stage.SEALED
    assert story.beat(1, incarnation=3) is Refusal.EVICTED


@pytest.mark.parametrize(
    ("index", "slots", "message"),
    [
        pytest.param(2, 2, "index is 2, but this run has the places 0 to 1", id="index"),
        pytest.param(0, 4, "slots is 4, but this run has 2 ranks a node", id="slots"),
    ],
)
def test_an_agent_of_another_shape_is_told_what_would_be_right(index: int, slots: int, message: str) -> None:
    stranger = agent(index).model_copy(update={"slots": slots})
    with pytest.raises(ValueError, match=message):
        membership.heard(Story().state, stranger, 0.0)


# -- loss -------------------------------------------------------------------------------


def test_the_end_of_a_connection_is_a_loss_after_a_tenth_of_a_second() -> None:
    story = Story()
    story.sealed()
    story.unplug(0)
    story.at(0.06)
    assert story.lost() == []
    story.at(0.15)
    assert story.lost() == [0]
    assert story.stage() is Stage.OPEN


def test_a_connection_that_comes_back_at_once_is_no_loss() -> None:
    story = Story()
    story.sealed()
    story.unplug(0)
    story.at(0.05)
    story.plug(0)
    story.at(1.0)
    assert story.stage() is Stage.SEALED


def test_a_word_well_after_the_end_of_the_connection_proves_life() -> None:
    story = Story()
    first = story.sealed()
    story.unplug(0)
    story.at(0.08)
    story.beat(0, running=first)
    story.beats_until(1.0, [0, 1], first)
    assert story.stage() is Stage.SEALED


def test_the_last_words_of_a_dying_process_do_not() -> None:
    story = Story()
    first = story.sealed()
    story.unplug(0)
    story.now = 0.01
    story.beat(0, running=first)
    story.at(0.2)
    assert story.lost() == [0]


def test_one_of_two_connections_may_end() -> None:
    story = Story()
    story.sealed()
    story.plug(0)
    story.unplug(0)
    story.at(1.0)
    assert story.stage() is Stage.SEALED


def test_silence_is_a_loss_after_five_seconds() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(4.9, [0], first)
    assert story.lost() == []
    story.beats_until(5.5, [0], first)
    assert story.lost() == [1]


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
    story.unplug(1)
    story.at(2.0)
    assert story.lost() == [1]


def test_a_coordinator_that_hears_fewer_than_half_suspects_itself() -> None:
    story = Story(nodes=3)
    first = story.sealed()
    story.beats_until(60.0, [0], first)
    assert story.lost() == []
    assert story.stage() is Stage.SEALED


def test_an_own_pause_is_not_the_silence_of_the_agents() -> None:
    story = Story()
    first = story.sealed()
    story.at(1.0)
    story.now = 31.0  # the coordinator was frozen for half a minute
    story.beat(0, running=first)
    story.said += membership.tick(story.state, story.now)
    assert story.lost() == []
    story.beats_until(34.0, [0, 1], first)
    assert story.stage() is Stage.SEALED


def test_an_agent_that_speaks_again_is_back() -> None:
    story = Story()
    first = story.sealed()
    story.beats_until(6.0, [0], first)
    assert story.state.missing() == [1]
    story.beat(1, running=first)
    assert story.state.missing() == []
    story.join(0, last=first.generation)
    story.join(1, last=first.generation)
    assert story.stage() is Stage.SEALED


def test_who_comes_and_who_comes_back_is_news() -> None:
    story = Story()
    story.sealed()
    story.said.clear()
    story.leave(1)
    story.beat(1)
    story.beat(1)
    assert [action.agent.index for action in story.said if isinstance(action, Arrived)] == [1]


def test_an_agent_that_leaves_is_lost_at_once_and_only_once() -> None:
    story = Story()
    story.sealed()
    story.leave(1)
    story.unplug(1)
    story.at(1.0)
    assert story.lost() == [1]
    assert story.state.missing() == [1]


def test_agents_that_never_joined_can_be_lost_without_blame() -> None:
    story = Story()
    story.plug(0)
    story.unplug(0)
    story.at(1.0)
    assert story.lost() == []
    assert story.state.missing() == [0, 1]


# -- a coordinator that was replaced ---------------------------------------------------------


def test_a_new_epoch_adopts_what_all_members_say_they_run() -> None:
    story = Story(epoch=2)
    story.beat(0, running=OLD)
    assert story.stage() is Stage.UNDECIDED
    story.beat(1, running=OLD)
    assert story.kinds() == ["Adopted"]
    assert story.state.generation == OLD.generation


def test_a_new_epoch_adopts_with_a_majority_and_gives_the_rest_time() -> None:
    story = Story(epoch=2, nodes=3)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 0, 0))
    story.at(1.0)
    story.beat(0, running=running)
    story.beat(1, running=running)
    assert story.kinds() == ["Adopted"]
    story.beats_until(9.5, [0, 1], running)
    assert story.lost() == []
    story.beats_until(10.6, [0, 1], running)
    assert story.lost() == [2]


def test_a_new_epoch_decides_nothing_before_a_majority_or_the_time_limit() -> None:
    story = Story(epoch=2)
    story.beats_until(9.5, [0], OLD)
    assert story.stage() is Stage.UNDECIDED
    story.beats_until(10.5, [0], OLD)
    assert story.kinds() == ["Opened"]
    assert story.state.generation == OLD.generation  # agents of it know that they are meant


def test_a_new_epoch_that_hears_fewer_than_half_does_nothing_at_all() -> None:
    story = Story(epoch=2, nodes=3)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 0, 0))
    story.beats_until(60.0, [0], running)
    assert story.stage() is Stage.UNDECIDED
    story.beat(1, running=running)
    assert story.stage() is Stage.SEALED


def test_a_new_epoch_opens_when_a_member_has_joined_again() -> None:
    story = Story(epoch=2)
    story.join(0, last=OLD.generation, why=failure(Cause.COMMUNICATION))
    story.beat(1, running=OLD)
    assert story.kinds() == ["Blamed", "Opened"]
    story.join(1, last=OLD.generation)
    assert story.state.generation == GenerationId(epoch=2, number=1)


def test_a_new_epoch_opens_for_a_substitute_of_a_member() -> None:
    story = Story(epoch=2)
    story.join(1, incarnation=1)
    story.beat(0, running=OLD)
    assert story.kinds() == ["Opened"]


def test_a_new_epoch_does_not_wait_when_everybody_waits_to_start() -> None:
    story = Story(epoch=2)
    story.join(0)
    story.join(1)
    assert story.kinds() == ["Opened", "Sealed"]


def test_a_new_epoch_follows_the_newest_claim_of_a_split_view() -> None:
    story = Story(epoch=3)
    older = sealed_by_hand(GenerationId(epoch=1, number=9))
    newer = sealed_by_hand(GenerationId(epoch=2, number=1))
    story.beat(0, running=older)
    story.beat(1, running=newer)
    assert story.stage() is Stage.UNDECIDED
    story.beat(0, running=newer)
    assert story.state.generation == newer.generation and story.stage() is Stage.SEALED


def test_a_join_whose_seal_was_lost_with_the_old_coordinator_is_answered_by_the_new_one() -> None:
    story = Story(epoch=2, nodes=3)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 0, 0))
    story.join(2, last=GenerationId(epoch=1, number=2), port=102)
    story.beat(0, running=running)
    story.beat(1, running=running)
    assert story.stage() is Stage.SEALED
    waiting = story.state.places[2].waiting
    assert waiting is not None and answered_by(story.state.sealed, waiting)


def test_generations_of_a_new_epoch_are_newer_than_all_before() -> None:
    story = Story(epoch=2)
    story.beat(0, running=OLD)
    story.beat(1, running=OLD)
    second = story.sealed()
    assert second.generation.newer_than(OLD.generation)
    assert second.generation == GenerationId(epoch=2, number=1)


def test_a_coordinator_that_hears_of_a_higher_epoch_knows_that_it_was_replaced() -> None:
    story = Story(epoch=2)
    story.beat(0, running=OLD)
    story.beat(1, running=OLD)
    future = sealed_by_hand(GenerationId(epoch=3, number=1))
    assert story.beat(0, running=future) is Refusal.SUPERSEDED
    assert story.join(1) is Refusal.SUPERSEDED


# -- back-off ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("barren", "seconds"),
    [
        pytest.param(0, 0.0, id="progress"),
        pytest.param(1, 0.0, id="first is free"),
        pytest.param(2, 0.5, id="second"),
        pytest.param(3, 1.0, id="third"),
        pytest.param(4, 2.0, id="fourth"),
        pytest.param(7, 10.0, id="longest"),
        pytest.param(1000, 10.0, id="stays longest"),
    ],
)
def test_the_seal_is_held_longer_with_each_barren_generation(barren: int, seconds: float) -> None:
    assert hold_seconds(barren) == seconds


def held(story: Story) -> float:
    """All agents join again: seconds until the next generation is sealed."""
    began = story.now
    for index in range(story.nodes):
        story.join(index, last=story.state.generation)
    while story.stage() is Stage.OPEN:
        story.at(story.now + 0.05)
    return round(story.now - began, 1)


def test_a_crash_loop_is_held_longer_and_longer_until_a_step_is_finished() -> None:
    story = Story()
    assert [held(story) for _ in range(5)] == [0.0, 0.0, 0.5, 1.0, 2.0]
    story.beat(0, running=story.state.sealed, step=1)
    assert held(story) == 0.0


def test_steps_that_were_trained_before_are_no_progress() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, step=57)
    running = story.sealed()
    assert story.state.barren == 0
    story.beat(0, running=running, step=57)
    story.join(0, last=running.generation)
    assert story.state.barren == 1


# -- the end ----------------------------------------------------------------------------


def test_the_run_is_finished_when_all_members_say_so() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, finished=True)
    assert story.stage() is Stage.SEALED
    story.beat(1, running=running, finished=True)
    assert story.state.outcome is RunState.FINISHED
    assert story.join(0, last=running.generation) is Refusal.CLOSED


def test_an_agent_that_is_done_waits_for_one_that_fails_afterwards() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, finished=True)
    story.join(1, last=running.generation, why=failure())
    assert story.stage() is Stage.OPEN
    story.beat(0, running=running, finished=True)
    story.join(0, last=running.generation)
    assert story.stage() is Stage.SEALED and story.state.outcome is None


def test_the_loss_of_an_agent_that_is_done_does_not_matter() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, finished=True)
    story.unplug(0)
    story.at(1.0)
    story.beat(1, running=running, finished=True)
    assert story.state.outcome is RunState.FINISHED


def test_the_end_of_an_older_generation_does_not_count() -> None:
    story = Story()
    first = story.sealed()
    story.sealed()
    story.beat(0, running=first, finished=True)
    story.beat(1, running=first, finished=True)
    assert story.state.outcome is None


def test_a_suspension_is_done_when_all_ranks_have_ended_after_their_checkpoint() -> None:
    story = Story()
    running = story.sealed()
    story.command(Command.CHECKPOINT_AND_EXIT)
    story.beat(0, running=running, suspended=True)
    assert story.state.outcome is None
    story.beat(1, running=running, suspended=True)
    assert story.state.outcome is RunState.SUSPENDED


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(lambda story: None, id="nobody has come"),
        pytest.param(lambda story: story.join(0), id="gathering"),
        pytest.param(lambda story: (story.sealed(), story.leave(0)), id="a generation is broken"),
    ],
)
def test_a_suspension_without_running_ranks_is_done_at_once(before: Callable[[Story], object]) -> None:
    story = Story()
    before(story)
    story.command(Command.CHECKPOINT_AND_EXIT)
    assert story.state.outcome is RunState.SUSPENDED


def test_a_rank_that_fails_during_a_suspension_suspends_all_the_same() -> None:
    story = Story()
    running = story.sealed()
    story.command(Command.CHECKPOINT_AND_EXIT)
    story.join(0, last=running.generation, why=failure())
    assert story.state.outcome is RunState.SUSPENDED


def test_a_command_can_be_taken_back_before_it_is_done() -> None:
    story = Story()
    story.sealed()
    story.command(Command.CHECKPOINT_AND_EXIT)
    story.command(Command.NONE)
    story.leave(0)
    assert story.stage() is Stage.OPEN


def test_a_failure_that_no_restart_mends_opens_and_is_blamed() -> None:
    story = Story()
    running = story.sealed()
    story.kinds()
    story.beat(0, running=running, why=failure(Cause.IMAGE_OR_CONFIG))
    assert story.kinds() == ["Blamed", "Opened"]
