"""What a coordinator keeps of its pods' energy, and when the operator hears of it."""

from __future__ import annotations

import pytest

from footplate_contracts.directives import Directives
from footplate_contracts.energy import MOST_PODS, PodEnergy
from footplate_contracts.rendezvous import Heartbeat, JoinRequest, LeaveRequest
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.energy import SPARES, PodEnergyTotals, max_stored_pods
from footplate_elastic.coordinator.state import new_membership
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import Timing
from tests.unit.footplate_elastic.coordinator.story import agent, any_size


def sums(uid: str, amount: int) -> PodEnergy:
    return PodEnergy(pod_uid=uid, millijoules=amount, counter_seconds=10 * amount, power_seconds=amount)


def coordinator(epoch: int = 1) -> Coordinator:
    membership = new_membership(epoch, 1, 2, 0.0, Timing())
    size = Directives(nodes=1)
    return Coordinator(membership, TelemetryBuffer(keep=False), lambda: 0.0, any_size, size)


def test_the_newest_of_each_pod_is_told() -> None:
    known = PodEnergyTotals()
    for word in (sums("a", 1), sums("b", 5), sums("a", 2), None):
        known.update(word, nodes=2)
    assert known.list_totals() == [sums("b", 5), sums("a", 2)]


def test_a_word_that_comes_late_takes_nothing_back() -> None:
    known = PodEnergyTotals()
    known.update(sums("a", 9), nodes=1)
    known.update(sums("a", 3), nodes=1)
    assert known.list_totals() == [sums("a", 9)]


def test_pods_that_were_heard_longest_ago_are_forgotten_first() -> None:
    known, room = PodEnergyTotals(), max_stored_pods(1)
    for number in range(room):
        known.update(sums(f"pod-{number}", 1), nodes=1)
    known.update(sums("pod-0", 2), nodes=1)
    known.update(sums("new", 1), nodes=1)
    told = [energy.pod_uid for energy in known.list_totals()]
    assert len(told) == room and "pod-1" not in told and told[-2:] == ["pod-0", "new"]


@pytest.mark.parametrize("nodes", [1, 64, 4096])
def test_there_is_room_for_all_that_live_and_no_more_than_can_be_told(nodes: int) -> None:
    assert nodes + SPARES < max_stored_pods(nodes) <= MOST_PODS


def test_more_energy_alone_is_no_news_for_the_operator() -> None:
    run = coordinator()
    run.join(JoinRequest(agent=agent(0), store_port=1), 0.0)
    run.heartbeat(Heartbeat(agent=agent(0), energy=sums("a", 1)), 1.0)
    run.tick(1.0)
    before = run.version
    run.heartbeat(Heartbeat(agent=agent(0), energy=sums("a", 2)), 1.5)
    run.tick(1.5)
    assert run.view().energy == [sums("a", 2)] and run.version == before


def test_a_pod_that_says_goodbye_or_is_turned_away_is_told_as_any_other() -> None:
    run = coordinator()
    run.join(JoinRequest(agent=agent(0), store_port=1), 0.0)
    run.heartbeat(Heartbeat(agent=agent(0), energy=sums("first", 1)), 1.0)
    run.leave(LeaveRequest(**agent(0).model_dump(), energy=sums("first", 2)), 2.0)
    run.join(JoinRequest(agent=agent(0, 1), store_port=1), 3.0)
    run.heartbeat(Heartbeat(agent=agent(0), energy=sums("first", 3)), 4.0)
    run.heartbeat(Heartbeat(agent=agent(0, 1), energy=sums("second", 1)), 4.0)
    assert run.view().energy == [sums("first", 3), sums("second", 1)]


def test_a_successor_knows_it_from_the_first_word_of_each_agent() -> None:
    word = Heartbeat(agent=agent(0), energy=sums("a", 7))
    successor = coordinator(epoch=2)
    successor.heartbeat(word, 1.0)
    assert successor.view().energy == [sums("a", 7)]
