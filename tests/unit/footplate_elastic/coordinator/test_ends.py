"""Crash loops are slowed down; a run ends when all of its members say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import Command
from footplate_contracts.names import Cause
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.coordinator.timing import hold_seconds
from footplate_elastic.protocol.wire import AgentRefusal
from tests.unit.footplate_elastic.coordinator.story import Story, failure


@pytest.mark.parametrize(
    ("fruitless", "seconds"),
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
def test_the_seal_is_held_longer_with_each_barren_generation(fruitless: int, seconds: float) -> None:
    assert hold_seconds(fruitless) == seconds


def held(story: Story) -> float:
    """All agents join again: seconds until the next generation is sealed."""
    began = story.now
    for index in range(story.nodes):
        story.join(index, last=story.state.generation)
    while story.rendezvous() is Rendezvous.OPEN:
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
    assert story.state.fruitless == 0
    story.beat(0, running=running, step=57)
    story.join(0, last=running.generation)
    assert story.state.fruitless == 1


def test_the_run_is_finished_when_all_members_say_so() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, finished=True)
    assert story.rendezvous() is Rendezvous.SEALED
    story.beat(1, running=running, finished=True)
    assert story.state.outcome is RunState.FINISHED
    assert story.join(0, last=running.generation) is AgentRefusal.CLOSED


def test_an_agent_that_is_done_waits_for_one_that_fails_afterwards() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, finished=True)
    story.join(1, last=running.generation, why=failure())
    assert story.rendezvous() is Rendezvous.OPEN
    story.beat(0, running=running, finished=True)
    story.join(0, last=running.generation)
    assert story.rendezvous() is Rendezvous.SEALED and story.state.outcome is None


def test_the_loss_of_an_agent_that_is_done_does_not_matter() -> None:
    story = Story()
    running = story.sealed()
    story.beat(0, running=running, finished=True)
    story.disconnect(0)
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
    assert story.rendezvous() is Rendezvous.OPEN


def test_a_failure_that_no_restart_mends_opens_and_is_blamed() -> None:
    story = Story()
    running = story.sealed()
    story.kinds()
    story.beat(0, running=running, why=failure(Cause.IMAGE_OR_CONFIG))
    assert story.kinds() == ["NumberedFailure", "RendezvousOpened"]
