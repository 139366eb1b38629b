"""Members that do not reach each other: when they are asked, and what their answers change."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from footplate_contracts.connectivity_probes import ConnectivityProbeResult
from footplate_contracts.coordinator_state import Verdict
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import AgentIdentity
from footplate_elastic.coordinator import membership, partition, timing
from footplate_elastic.coordinator.failure_detector import find_missed_agents
from footplate_elastic.coordinator.failures import hang_report
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.coordinator.watchdog import Watchdog
from tests.unit.footplate_elastic.coordinator.story import Story, agent, failure

LOST_CONNECTION = failure(Cause.COMMUNICATION)


def broken(nodes: int = 3, least: int | None = None, why: Cause = Cause.COMMUNICATION) -> Story:
    """All members have joined again after their generation was broken."""
    story = Story(nodes, least=least)
    sealed = story.sealed()
    story.at(1.0)
    if why is Cause.HANG:
        watchdog = Watchdog()
        watchdog.begin(2 * nodes, story.now)
        teller, report = hang_report(sealed, watchdog, None, story.now, 0.0)
        story.said += membership.handle_hang(story.state, teller, report, story.now)
    for index in range(nodes):
        said = None if why is Cause.HANG else failure(why) if index == 0 else LOST_CONNECTION
        story.join(index, last=sealed.generation, why=said)
    story.said.clear()
    return story


def answer(story: Story, complaints: Mapping[int, list[int]], indices: range | None = None) -> None:
    """All who are asked answer; who in `complaints` did not reach these."""
    for index in indices or range(story.nodes):
        probe = partition.probe_for(story.state, agent(index))
        if probe is None:
            continue
        unreached = [agent(other).pod_name for other in complaints.get(index, [])]
        result = ConnectivityProbeResult(epoch=story.epoch, number=probe.number, unreached=unreached)
        story.beat(index, probed=result)


def asked(story: Story) -> bool:
    return partition.probe_for(story.state, agent(0)) is not None


def judged(story: Story, complaints: Mapping[int, list[int]]) -> Story:
    """Two rounds with the same answers, a second apart."""
    for _ in range(2):
        story.beats_until(story.now + timing.BETWEEN + 0.1, list(range(story.nodes)))
        answer(story, complaints)
        story.at(story.now + 0.05)
    return story


@pytest.mark.parametrize("why", [Cause.COMMUNICATION, Cause.HANG])
def test_a_lost_connection_and_a_standstill_are_asked_about_before_the_next_seal(why: Cause) -> None:
    story = broken(why=why)
    assert story.rendezvous() is Rendezvous.OPEN and asked(story)
    answer(story, {})
    story.at(story.now + 0.05)
    assert story.rendezvous() is Rendezvous.SEALED
    assert [f.failure.cause for f in story.state.failures.list_failures()] in ([], [why])


@pytest.mark.parametrize("why", [Cause.USER_ERROR, Cause.OUT_OF_MEMORY])
def test_what_explains_the_lost_connections_of_others_is_not_asked_about(why: Cause) -> None:
    assert broken(why=why).rendezvous() is Rendezvous.SEALED


def test_nobody_is_asked_at_the_start() -> None:
    story = Story(3)
    story.sealed()
    assert story.rendezvous() is Rendezvous.SEALED


def test_an_agent_is_asked_for_all_others_at_the_ports_of_their_last_joins() -> None:
    story = broken()
    probe = partition.probe_for(story.state, agent(1))
    assert probe is not None
    assert [(peer.pod_name, peer.port) for peer in probe.peers] == [("run-w0-0", 1004), ("run-w2-0", 1006)]


def test_one_of_two_gives_its_place_up_and_the_network_is_blamed() -> None:
    story = judged(broken(why=Cause.HANG), {0: [1]})
    assert story.rendezvous() is Rendezvous.OPEN
    assert [(m.agent.index, m.verdict) for m in find_missed_agents(story.state, story.now)] == [
        (1, Verdict.UNREACHABLE)
    ]
    [pair] = partition.list_unreachable_pairs(story.state)
    assert (pair.one.index, pair.other.index) == (0, 1)
    [listed] = story.state.failures.list_failures()
    assert (listed.failure.cause, listed.failure.reason) == (Cause.COMMUNICATION, Reason.NETWORK_PARTITION)
    assert listed.agent.index == 1 and "worker 0" in listed.failure.message


def test_it_is_heard_and_stays_without_its_place() -> None:
    story = judged(broken(), {0: [1]})
    story.beats_until(story.now + 30.0, [0, 1, 2])
    assert story.state.missing() == [1] and story.rendezvous() is Rendezvous.OPEN


def test_a_substitute_has_the_place_at_once() -> None:
    story = judged(broken(), {0: [1]})
    story.connect(1, 1)
    story.join(1, 1)
    answer(story, {0: [1]})  # the round that was under way when it came
    for index, incarnation in ((0, 0), (1, 1), (2, 0)):
        probe = partition.probe_for(story.state, agent(index, incarnation))
        assert probe is not None
        story.beat(index, incarnation, probed=ConnectivityProbeResult(epoch=1, number=probe.number))
    story.at(story.now + 0.05)
    assert story.rendezvous() is Rendezvous.SEALED and not partition.list_unreachable_pairs(story.state)


def test_who_reaches_all_again_is_taken_back() -> None:
    story = judged(broken(), {0: [1]})
    story.beats_until(story.now + 5.0, [0, 1, 2])
    answer(story, {})
    story.at(story.now + 0.05)
    assert story.rendezvous() is Rendezvous.SEALED and story.members() == [0, 1, 2]
    assert not find_missed_agents(story.state, story.now) and not partition.list_unreachable_pairs(
        story.state
    )


def test_fewer_go_on_where_they_may() -> None:
    story = judged(broken(least=2), {0: [1]})
    story.beats_until(story.now + story.state.timing.substitute, [0, 1, 2])
    assert story.members() == [0, 2] and story.rendezvous() is Rendezvous.SEALED


def test_while_fewer_train_it_is_asked_alone_and_taken_back() -> None:
    story = judged(broken(least=2), {0: [1]})
    story.beats_until(story.now + story.state.timing.substitute, [0, 1, 2])
    sealed = story.state.sealed
    for complaints in ([0], []):
        story.beats_until(story.now + 12.0, [0, 1, 2], sealed)
        assert not asked(story)
        answer(story, {1: complaints})
        story.at(story.now + 0.05)
        assert [agent.index for agent in pairs_of(story)] == ([0, 1] if complaints else [])
    story.save()
    assert story.rendezvous() is Rendezvous.OPEN and not story.state.missing()


def pairs_of(story: Story) -> list[AgentIdentity]:
    return [
        agent for pair in partition.list_unreachable_pairs(story.state) for agent in (pair.one, pair.other)
    ]


def test_where_more_than_half_had_to_go_nobody_does() -> None:
    story = judged(broken(), {0: [1, 2], 1: [2]})
    assert story.rendezvous() is Rendezvous.OPEN and not story.state.missing()
    assert len(partition.list_unreachable_pairs(story.state)) == 3
    story.beats_until(story.now + 12.0, [0, 1, 2])
    answer(story, {})
    story.at(story.now + 0.05)
    assert story.rendezvous() is Rendezvous.SEALED


def test_one_that_gave_way_and_falls_silent_is_not_taken_back() -> None:
    story = judged(broken(), {0: [1]})
    story.beats_until(story.now + 30.0, [0, 2])
    answer(story, {}, range(0, 3, 2))
    story.at(story.now + 0.05)
    assert story.state.missing() == [1]


def test_one_that_gave_way_and_ends_is_gone() -> None:
    story = judged(broken(), {0: [1]})
    story.disconnect(1)
    story.at(story.now + 0.2)
    assert [m.verdict for m in find_missed_agents(story.state, story.now)] == [Verdict.ENDED]


def test_an_answer_for_an_earlier_coordinator_is_none() -> None:
    story = broken()
    probe = partition.probe_for(story.state, agent(0))
    assert probe is not None
    story.beat(0, probed=ConnectivityProbeResult(epoch=story.epoch + 1, number=probe.number))
    assert asked(story)


def test_a_coordinator_that_opens_what_another_one_left_asks_too() -> None:
    story = Story(2, epoch=2)
    before = Story(2).sealed()
    story.beat(0, running=before)
    story.join(1, last=before.generation)
    story.join(0, last=before.generation)
    story.at(0.1)
    assert story.rendezvous() is not Rendezvous.SEALED
