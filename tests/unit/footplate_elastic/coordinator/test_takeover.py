"""A coordinator that was replaced neither stops a healthy generation nor seals one beside it."""

from __future__ import annotations

from footplate_contracts.connectivity_probes import ConnectivityProbeResult
from footplate_contracts.names import Cause
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator.slots import is_answered_by
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.protocol.wire import AgentRefusal
from tests.unit.footplate_elastic.coordinator.story import Story, failure, sealed_by_hand

OLD = sealed_by_hand(GenerationId(epoch=1, number=3))


def test_a_new_epoch_adopts_what_all_members_say_they_run() -> None:
    story = Story(epoch=2)
    story.beat(0, running=OLD)
    assert story.rendezvous() is Rendezvous.UNDECIDED
    story.beat(1, running=OLD)
    assert story.kinds() == ["GenerationAdopted"]
    assert story.state.generation == OLD.generation


def test_a_new_epoch_adopts_with_a_majority_and_gives_the_rest_time() -> None:
    story = Story(epoch=2, nodes=3)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 0, 0))
    story.at(1.0)
    story.beat(0, running=running)
    story.beat(1, running=running)
    assert story.kinds() == ["GenerationAdopted"]
    story.beats_until(9.5, [0, 1], running)
    assert story.lost() == []
    story.beats_until(10.6, [0, 1], running)
    assert story.lost() == [2]


def test_a_new_epoch_decides_nothing_before_a_majority_or_the_time_limit() -> None:
    story = Story(epoch=2)
    story.beats_until(9.5, [0], OLD)
    assert story.rendezvous() is Rendezvous.UNDECIDED
    story.beats_until(10.5, [0], OLD)
    assert story.kinds() == ["RendezvousOpened", "MemberLost"], "whoever has not spoken by then is silent"
    assert story.state.generation == OLD.generation  # agents of it know that they are meant


def test_a_new_epoch_that_hears_fewer_than_half_does_nothing_at_all() -> None:
    story = Story(epoch=2, nodes=3)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 0, 0))
    story.beats_until(60.0, [0], running)
    assert story.rendezvous() is Rendezvous.UNDECIDED
    story.beat(1, running=running)
    assert story.rendezvous() is Rendezvous.SEALED


def test_a_new_epoch_opens_when_a_member_has_joined_again() -> None:
    story = Story(epoch=2)
    story.join(0, last=OLD.generation, why=failure(Cause.COMMUNICATION))
    story.beat(1, running=OLD)
    assert story.kinds() == ["RendezvousOpened"], "a lost connection is listed later, unless explained"
    story.join(1, last=OLD.generation)
    assert story.rendezvous() is Rendezvous.OPEN, "whether they reach each other is asked first"
    for index in (0, 1):
        story.beat(index, probed=ConnectivityProbeResult(epoch=2, number=1))
    assert story.state.generation == GenerationId(epoch=2, number=1)


def test_a_new_epoch_opens_for_a_substitute_of_a_member() -> None:
    story = Story(epoch=2)
    story.join(1, incarnation=1)
    story.beat(0, running=OLD)
    assert story.kinds() == ["RendezvousOpened"]


def test_a_new_epoch_does_not_wait_when_everybody_waits_to_start() -> None:
    story = Story(epoch=2)
    story.join(0)
    story.join(1)
    assert story.kinds() == ["RendezvousOpened", "GenerationStarted"]


def test_a_new_epoch_follows_the_newest_claim_of_a_split_view() -> None:
    story = Story(epoch=3)
    older = sealed_by_hand(GenerationId(epoch=1, number=9))
    newer = sealed_by_hand(GenerationId(epoch=2, number=1))
    story.beat(0, running=older)
    story.beat(1, running=newer)
    assert story.rendezvous() is Rendezvous.UNDECIDED
    story.beat(0, running=newer)
    assert story.state.generation == newer.generation and story.rendezvous() is Rendezvous.SEALED


def test_a_join_whose_seal_was_lost_with_the_old_coordinator_is_answered_by_the_new_one() -> None:
    story = Story(epoch=2, nodes=3)
    running = sealed_by_hand(GenerationId(epoch=1, number=3), (0, 0, 0))
    story.join(2, last=GenerationId(epoch=1, number=2), port=102)
    story.beat(0, running=running)
    story.beat(1, running=running)
    assert story.rendezvous() is Rendezvous.SEALED
    waiting = story.state.slots[2].waiting
    assert waiting is not None and is_answered_by(story.state.sealed, waiting)


def test_generations_of_a_new_epoch_are_newer_than_all_before() -> None:
    story = Story(epoch=2)
    story.beat(0, running=OLD)
    story.beat(1, running=OLD)
    second = story.sealed()
    assert second.generation.is_newer_than(OLD.generation)
    assert second.generation == GenerationId(epoch=2, number=1)


def test_a_coordinator_that_hears_of_a_higher_epoch_knows_that_it_was_replaced() -> None:
    story = Story(epoch=2)
    story.beat(0, running=OLD)
    story.beat(1, running=OLD)
    future = sealed_by_hand(GenerationId(epoch=3, number=1))
    assert story.beat(0, running=future) is AgentRefusal.SUPERSEDED
    assert story.join(1) is AgentRefusal.SUPERSEDED
