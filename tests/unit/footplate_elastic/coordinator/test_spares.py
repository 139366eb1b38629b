"""Who takes the slot of a lost member, and who must not."""

from __future__ import annotations

from footplate_contracts.names import FIRST_SPARE
from footplate_elastic.coordinator.actions import SparePromoted
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.protocol.wire import AgentRefusal
from tests.unit.footplate_elastic.coordinator.story import Story


def with_spare(nodes: int = 2, **sizes: int) -> Story:
    """All members train, and a spare waits."""
    story = Story(nodes=nodes, **sizes)
    story.sealed()
    story.connect(FIRST_SPARE)
    story.join(FIRST_SPARE)
    story.beat(0, running=story.state.sealed, step=7)
    story.kinds()
    return story


def incarnations(story: Story) -> list[int]:
    assert story.state.sealed is not None
    return [member.agent.incarnation for member in story.state.sealed.members]


def test_a_spare_that_joins_disturbs_nobody() -> None:
    story = with_spare()
    assert (story.kinds(), story.rendezvous(), story.members()) == ([], Rendezvous.SEALED, [0, 1])
    story.save()
    assert story.kinds() == []


def test_it_takes_the_slot_of_a_lost_member_at_once_and_keeps_its_ranks() -> None:
    story = with_spare(nodes=3)
    before = story.now
    story.lose(1)
    assert story.rendezvous() is Rendezvous.SEALED and story.now - before < 0.3
    assert story.members() == [0, 1, 2] and incarnations(story) == [0, 100, 0]
    [stood_in] = [action for action in story.said if isinstance(action, SparePromoted)]
    assert (stood_in.spare.index, stood_in.agent.index) == (FIRST_SPARE, 1)
    assert stood_in.agent.pod_name == stood_in.spare.pod_name
    assert story.state.resolve_identity(stood_in.spare) == stood_in.agent


def test_it_does_not_overtake_a_survivor_that_has_not_joined_again() -> None:
    story = with_spare(nodes=3)
    first = story.state.sealed
    assert first is not None
    story.disconnect(1)
    story.at(story.now + 0.2)
    story.join(0, last=first.generation)
    assert story.rendezvous() is Rendezvous.OPEN
    story.beats_until(4.0, [0, 2], first)
    assert story.rendezvous() is Rendezvous.OPEN
    story.join(2, last=first.generation)
    assert story.members() == [0, 1, 2] and incarnations(story) == [0, 100, 0]


def test_a_failed_rank_costs_no_spare() -> None:
    story = with_spare()
    last = story.state.generation
    story.join(0, last=last)
    story.join(1, last=last)
    assert incarnations(story) == [0, 0]


def test_it_waits_for_the_gang_to_come_first() -> None:
    story = Story(nodes=2)
    story.join(FIRST_SPARE)
    story.join(0)
    story.beats_until(30.0, [0, FIRST_SPARE])
    assert story.rendezvous() is Rendezvous.OPEN
    story.join(1)
    assert incarnations(story) == [0, 0]


def test_a_worker_that_never_comes_is_stood_in_for_in_the_end() -> None:
    story = Story(nodes=2)
    story.join(FIRST_SPARE)
    story.join(0)
    story.beats_until(61.0, [0, FIRST_SPARE])
    assert story.members() == [0, 1]


def test_neither_the_lost_agent_nor_a_late_substitute_gets_the_slot_back() -> None:
    story = with_spare()
    story.lose(1)
    assert story.join(1, incarnation=0) is AgentRefusal.EVICTED
    assert story.join(1, incarnation=1) is AgentRefusal.EVICTED
    assert story.rendezvous() is Rendezvous.SEALED


def test_the_one_that_was_promoted_is_replaced_like_any_worker() -> None:
    story = with_spare()
    story.lose(1)
    last = story.state.generation
    story.disconnect(1, 100)
    story.at(story.now + 0.2)
    story.join(0, last=last)
    assert story.lost() == [1, 1]
    story.join(1, incarnation=101)
    assert incarnations(story) == [0, 101]


def test_a_spare_that_dies_while_it_waits_is_not_used() -> None:
    story = with_spare()
    story.disconnect(FIRST_SPARE)
    story.at(story.now + 0.2)
    story.lose(1)
    assert story.rendezvous() is Rendezvous.OPEN and story.state.missing() == [1]
    assert story.lost() == [1], "nobody misses the spare"


def test_a_spare_makes_a_small_world_grow_at_the_next_checkpoint() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.beats_until(16.0, [0])
    story.beat(0, running=story.state.sealed, step=7)
    story.join(FIRST_SPARE)
    assert story.members() == [0]
    story.save()
    story.join(0, last=story.state.generation)
    assert story.members() == [0, 1] and incarnations(story) == [0, 100]
