"""One failure speaks for the end of a generation, and what is listed never changes."""

from __future__ import annotations

from footplate_contracts.names import Cause, Reason
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator.actions import MemberLost
from footplate_elastic.coordinator.failures import LISTED, FailureLog, loss_report
from tests.unit.footplate_elastic.coordinator.story import agent, failure

G1, G2 = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


def causes(log: FailureLog) -> list[Cause]:
    return [entry.failure.cause for entry in log.list_failures()]


def test_an_error_is_listed_at_once_and_its_echoes_never() -> None:
    log = FailureLog()
    assert log.add(agent(0), G1, failure(Cause.USER_ERROR), 0.0)
    assert not log.add(agent(1), G1, failure(Cause.COMMUNICATION), 0.1)
    log.settle(10.0)
    assert causes(log) == [Cause.USER_ERROR]


def test_an_echo_that_comes_first_gives_way() -> None:
    log = FailureLog()
    log.add(agent(1), G1, failure(Cause.COMMUNICATION), 0.0)
    assert not log.settle(0.5)
    log.add(agent(0), G1, failure(Cause.STORAGE), 0.6)
    log.settle(10.0, everything=True)
    assert causes(log) == [Cause.STORAGE]


def test_an_echo_without_a_cause_is_listed_after_three_seconds() -> None:
    log = FailureLog()
    log.add(agent(1), G1, failure(Cause.COMMUNICATION), 0.0)
    assert not log.settle(2.9)
    assert log.settle(3.0)
    assert not log.add(agent(0), G1, failure(Cause.USER_ERROR), 3.1)
    assert causes(log) == [Cause.COMMUNICATION]


def test_the_first_of_two_errors_speaks() -> None:
    log = FailureLog()
    log.add(agent(0), G1, failure(Cause.OUT_OF_MEMORY), 0.0)
    log.add(agent(1), G1, failure(Cause.USER_ERROR), 0.0)
    assert causes(log) == [Cause.OUT_OF_MEMORY]


def test_each_generation_has_its_own_failure_and_numbers_count_up() -> None:
    log = FailureLog()
    log.add(agent(0), G1, failure(), 0.0)
    log.add(agent(0), G2, failure(), 1.0)
    assert [(entry.number, entry.generation) for entry in log.list_failures()] == [(1, G1), (2, G2)]


def test_outside_a_generation_every_failure_is_its_own() -> None:
    log = FailureLog()
    log.add(agent(0), None, failure(Cause.IMAGE_OR_CONFIG), 0.0)
    log.add(agent(1), None, failure(Cause.IMAGE_OR_CONFIG), 0.0)
    assert len(log.list_failures()) == 2
    assert not log.add(agent(1), None, failure(Cause.IMAGE_OR_CONFIG), 5.0), "it is said again"
    assert log.add(agent(1), None, failure(Cause.IMAGE_OR_CONFIG, time=6.0), 6.0)


def test_the_list_keeps_the_newest_and_the_numbers_go_on() -> None:
    log = FailureLog()
    for number in range(40):
        log.add(agent(0), GenerationId(epoch=1, number=number), failure(), 0.0)
    assert len(log.list_failures()) == LISTED
    assert log.list_failures()[-1].number == 40


def test_what_is_not_listed_any_more_is_counted_by_cause() -> None:
    log = FailureLog()
    for number in range(60):
        cause = Cause.STORAGE if number < 20 else Cause.HANG
        log.add(agent(0), GenerationId(epoch=1, number=number), failure(cause), 0.0)
    log.settle(0.0, everything=True)
    log.add(agent(1), GenerationId(epoch=1, number=59), failure(Cause.COMMUNICATION), 0.1)
    assert log.by_cause() == {"Storage": 20, "Hang": 40}
    assert log.list_failures()[0].number == 29


def test_a_failure_tells_which_checkpoint_was_the_newest() -> None:
    log = FailureLog()
    for generation, step in ((G1, None), (G2, 500)):
        log.checkpoint_step = step
        log.add(agent(0), generation, failure(), 0.0)
    assert [entry.checkpoint_step for entry in log.list_failures()] == [None, 500]


def test_a_lost_agent_is_named_with_its_node() -> None:
    lost = MemberLost(
        agent(1).model_copy(update={"node_name": "node-7"}), G1, Reason.AGENT_LOST, "its connection ended"
    )
    report = loss_report(lost, step=12, wall_time=5.0)
    assert report.message == "worker 1 (run-w1-0 on node node-7) is lost: its connection ended"
    assert (report.cause, report.step, report.time) == (Cause.NODE_LOST, 12, 5.0)
