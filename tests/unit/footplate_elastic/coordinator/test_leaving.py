"""An agent that was told to end: all save what they did, and only then somebody else has its slot."""

from __future__ import annotations

from footplate_contracts.directives import Command
from footplate_contracts.rendezvous import SealedGeneration
from footplate_elastic.coordinator import membership
from footplate_elastic.coordinator.actions import AgentLeaving, MemberLost
from footplate_elastic.coordinator.state import Rendezvous
from tests.unit.footplate_elastic.coordinator.story import Story, agent


def stepping(step: int | None = 5) -> tuple[Story, SealedGeneration]:
    """Two agents, whose ranks have done `step` in their first generation."""
    story = Story()
    for index in (0, 1):
        story.beat(index)
        story.join(index)
    sealed = story.state.sealed
    assert sealed is not None
    for index in (0, 1):
        story.beat(index, running=sealed, step=step)
    story.said.clear()
    return story, sealed


def saved(story: Story, sealed: SealedGeneration) -> None:
    for index in (0, 1):
        story.beat(index, running=sealed, suspended=True, leaving=index == 1)


def test_all_are_asked_to_save_and_nothing_breaks_before() -> None:
    story, sealed = stepping()
    story.beat(1, running=sealed, leaving=True)
    assert story.said == [AgentLeaving(agent(1))]
    assert (story.state.rendezvous, story.state.effective_command) == (
        Rendezvous.SEALED,
        Command.CHECKPOINT_AND_EXIT,
    )
    saved(story, sealed)
    assert [type(said).__name__ for said in story.said] == ["AgentLeaving", "MemberLost", "RendezvousOpened"]
    assert (story.state.missing(), story.state.effective_command) == ([1], Command.NONE)


def test_before_a_step_was_done_there_is_nothing_to_save() -> None:
    story, sealed = stepping(step=None)
    story.beat(1, running=sealed, leaving=True)
    assert story.lost() == [1] and story.state.rendezvous is Rendezvous.OPEN


def test_its_substitute_waits_until_all_have_saved_and_is_there_then() -> None:
    story, sealed = stepping()
    story.beat(1, running=sealed, leaving=True)
    story.beat(1, incarnation=1)
    story.join(1, incarnation=1)
    assert story.state.rendezvous is Rendezvous.SEALED
    saved(story, sealed)
    story.join(0, last=sealed.generation)
    assert story.state.sealed is not None and story.state.sealed is not sealed
    assert [member.agent.incarnation for member in story.state.sealed.members] == [0, 1]


def test_one_that_dies_before_it_has_saved_is_lost_as_any_other() -> None:
    story, sealed = stepping()
    membership.handle_connect(story.state, agent(1), story.now)
    story.beat(1, running=sealed, leaving=True)
    membership.handle_disconnect(story.state, agent(1), story.now)
    story.at(0.3)
    assert [said.why for said in story.said if isinstance(said, MemberLost)] == ["its connection ended"]
    assert story.state.effective_command is Command.NONE


def test_a_suspension_meanwhile_closes_the_run() -> None:
    story, sealed = stepping()
    story.beat(1, running=sealed, leaving=True)
    membership.handle_command(story.state, Command.CHECKPOINT_AND_EXIT, story.now)
    saved(story, sealed)
    assert story.state.rendezvous is Rendezvous.CLOSED
