"""How many train: who is waited for, when fewer go on, and when they grow again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from footplate_contracts.directives import Command, Directives
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.gang_size import choose_count, describe_refusal
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from tests.unit.footplate_elastic.coordinator.story import Story, any_size, sealed_by_hand


@pytest.mark.parametrize(
    ("ready", "nodes", "legal", "count"),
    [
        pytest.param(4, 4, (4,), 4, id="all"),
        pytest.param(3, 4, (4,), 0, id="fixed-size"),
        pytest.param(3, 4, (2, 3, 4), 3, id="fewer"),
        pytest.param(3, 4, (2, 4), 2, id="fewer-than-there-are"),
        pytest.param(1, 4, (2, 4), 0, id="too-few"),
        pytest.param(5, 4, (2, 4, 5), 4, id="never-more-than-wanted"),
        pytest.param(4, 4, (), 4, id="the-ranks-say-why-that-cannot-work"),
        pytest.param(3, 3, (2, 4), 2, id="an-illegal-wish"),
    ],
)
def test_count(ready: int, nodes: int, legal: Sequence[int], count: int) -> None:
    assert choose_count(ready, nodes, legal) == count


def test_a_lost_node_is_awaited_and_then_fewer_go_on() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.beats_until(14.0, [0])
    assert story.rendezvous() is Rendezvous.OPEN
    story.beats_until(16.0, [0])
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0]
    assert story.state.missing() == [1]


def test_a_substitute_in_time_keeps_the_size() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.beats_until(5.0, [0])
    story.join(1, incarnation=1)
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0, 1]


def test_a_substitute_that_speaks_is_awaited_longer_but_not_for_ever() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    while story.now < 59.0:
        story.beats_until(story.now + 1.0, [0])
        story.beat(1, incarnation=1)
    assert story.rendezvous() is Rendezvous.OPEN
    story.beats_until(62.0, [0])
    assert story.members() == [0]


def test_without_a_smaller_legal_size_everybody_waits() -> None:
    story = Story(nodes=2)
    story.sealed()
    story.lose(1)
    story.beats_until(100.0, [0])
    assert story.rendezvous() is Rendezvous.OPEN


def test_a_live_survivor_is_never_left_behind() -> None:
    story = Story(nodes=3, least=1)
    first = story.sealed()
    story.disconnect(2)
    story.at(0.2)
    story.join(0, last=first.generation)
    story.beats_until(30.0, [0, 1], first)
    assert story.rendezvous() is Rendezvous.OPEN
    story.join(1, last=first.generation)
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0, 1]


def test_it_grows_at_the_next_checkpoint_and_not_before() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.beats_until(16.0, [0])
    small = story.state.sealed
    story.connect(1, incarnation=1)
    story.join(1, incarnation=1)
    story.kinds()
    story.beats_until(18.0, [0], small)
    story.beat(0, running=small, step=7)
    story.beat(1, incarnation=1)
    assert (story.kinds(), story.rendezvous()) == ([], Rendezvous.SEALED)
    story.save()
    assert story.kinds() == ["RendezvousOpened"]
    story.join(0, last=story.state.generation)
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0, 1]
    assert story.lost() == []


def test_a_checkpoint_without_anybody_new_breaks_nothing() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.kinds()
    story.save()
    assert (story.kinds(), story.rendezvous()) == ([], Rendezvous.SEALED)


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param(lambda story: story.command(Command.CHECKPOINT_AND_EXIT), id="it-is-suspended"),
        pytest.param(lambda story: story.beat(0, running=story.state.sealed, finished=True), id="it-ends"),
    ],
)
def test_a_run_that_is_about_to_end_does_not_grow(busy: object) -> None:
    story = Story(nodes=1, least=1)
    story.sealed()
    story.resize(2)
    story.connect(1)
    story.join(1)
    assert callable(busy)
    busy(story)
    story.kinds()
    story.save()
    assert story.kinds() == []


def test_it_grows_to_more_nodes_than_it_began_with_where_that_is_asked_for() -> None:
    story = Story(nodes=1, least=1)
    first = story.sealed()
    story.connect(1)
    story.join(1)
    story.save()
    assert story.members() == [0], "nobody asked for it"
    story.resize(2)
    story.save()
    story.join(0, last=first.generation)
    assert story.members() == [0, 1]


def test_it_shrinks_on_request_at_the_next_checkpoint_and_loses_nobody() -> None:
    story = Story(nodes=2, least=1)
    first = story.sealed()
    story.resize(1)
    story.kinds()
    story.beats_until(5.0, [0, 1], first)
    assert (story.kinds(), story.members()) == ([], [0, 1])
    story.save()
    story.join(1, last=first.generation)
    story.join(0, last=first.generation)
    assert story.members() == [0] and story.state.missing() == []
    story.leave(1)
    assert story.rendezvous() is Rendezvous.SEALED and story.lost() == []


def test_fewer_go_on_once_that_is_allowed() -> None:
    story = Story(nodes=2)
    story.sealed()
    story.lose(1)
    story.beats_until(30.0, [0])
    assert story.rendezvous() is Rendezvous.OPEN
    story.resize(2, least=1)
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0]


def test_who_trains_goes_on_below_a_minimum_that_was_raised_and_waits_after_a_loss() -> None:
    story = Story(nodes=3, least=1)
    story.sealed()
    story.lose(2)
    story.beats_until(16.0, [0, 1])
    small = story.state.sealed
    assert small is not None and story.members() == [0, 1]
    story.kinds()
    story.resize(3, least=3)
    story.save()
    story.beats_until(20.0, [0, 1], small)
    assert (story.kinds(), story.rendezvous()) == ([], Rendezvous.SEALED)
    story.lose(1)
    story.beats_until(60.0, [0])
    assert story.rendezvous() is Rendezvous.OPEN
    for index in (1, 2):
        story.join(index, incarnation=1)
    assert story.members() == [0, 1, 2]


def test_the_last_wish_before_a_checkpoint_counts() -> None:
    story = Story(nodes=1)
    first = story.sealed()
    story.resize(3)
    for index in (1, 2):
        story.connect(index)
        story.join(index)
    story.resize(2)
    story.save()
    story.join(0, last=first.generation)
    assert story.members() == [0, 1] and story.lost() == []


def test_a_wish_for_more_than_come_leaves_a_fixed_size_alone_at_a_checkpoint() -> None:
    story = Story(nodes=2)
    story.sealed()
    story.resize(4)
    story.connect(2)
    story.join(2)
    story.kinds()
    story.save()
    assert (story.kinds(), story.members()) == ([], [0, 1])


@pytest.mark.parametrize(
    "told",
    [pytest.param(None, id="not-yet-told"), pytest.param(4, id="told-before-anybody-speaks")],
)
def test_a_new_coordinator_adopts_more_nodes_than_the_run_began_with(told: int | None) -> None:
    running = sealed_by_hand(GenerationId(epoch=1, number=2), (0, 0, 0, 0))
    story = Story(nodes=2, epoch=2)
    if told:
        story.resize(told)
    for index in range(4):
        assert story.beat(index, running=running) is None
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0, 1, 2, 3]


def in_pairs(least: int, most: int) -> tuple[int, ...]:
    return tuple(count for count in any_size(least, most) if count % 2 == 0)


def coordinator(story: Story) -> Coordinator:
    size = Directives(nodes=story.nodes)
    return Coordinator(story.state, TelemetryBuffer(keep=False), lambda: 0.0, in_pairs, size)


@pytest.mark.parametrize(
    ("size", "nodes", "legal"),
    [
        pytest.param(Directives(nodes=4), 4, (4,), id="fixed"),
        pytest.param(Directives(nodes=5, min_nodes=1), 5, (2, 4), id="the-best-within"),
        pytest.param(Directives(nodes=5), 2, (2,), id="none-within"),
        pytest.param(Directives(nodes=1), 2, (2,), id="none-at-all"),
        pytest.param(Directives(nodes=2, min_nodes=4), 2, (2,), id="bounds-crossed"),
    ],
)
def test_a_size_is_in_force_where_some_number_can_train(
    size: Directives, nodes: int, legal: tuple[int, ...]
) -> None:
    run = coordinator(Story(nodes=2))
    before = run.version
    run.set_directives(size, 0.0)
    assert (run.state.nodes, run.state.legal) == (nodes, legal)
    view = run.view()
    assert view.directives == size and view.version > before, "the operator hears that it was told"
    assert ("nodes" in view.refusals) == (nodes != size.nodes or size.min_nodes == 4)
    run.set_directives(Directives(nodes=2), 0.0)
    assert run.view().refusals == {}


def test_a_refusal_names_what_would_be_right() -> None:
    assert describe_refusal(5, 5, in_pairs) == (
        "compute.nodes: no number of nodes from 5 to 5 fits spec.parallelism;"
        " the nearest that fit: 2, 4, 6, 8"
    )


def test_a_run_starts_with_fewer_where_the_others_do_not_come() -> None:
    story = Story(nodes=2, least=1)
    story.join(0)
    story.beats_until(59.0, [0])
    assert story.rendezvous() is Rendezvous.OPEN
    story.beats_until(61.0, [0])
    assert story.members() == [0]


def test_a_failure_of_the_small_world_takes_in_who_waits() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.beats_until(16.0, [0])
    story.join(1, incarnation=1)
    story.beat(0, running=story.state.sealed, step=7)
    story.join(0, last=story.state.generation)
    assert story.members() == [0, 1]


def test_a_replaced_coordinator_adopts_a_small_world_beside_a_waiting_agent() -> None:
    story = Story(nodes=2, least=1)
    story.sealed()
    story.lose(1)
    story.beats_until(16.0, [0])
    small = story.state.sealed
    successor = Story(nodes=2, least=1, epoch=2)
    successor.join(1, incarnation=1)
    successor.beat(0, running=small)
    assert successor.rendezvous() is Rendezvous.SEALED and successor.members() == [0]
