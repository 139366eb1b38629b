"""One failure speaks for the end of a generation, and what is listed never changes."""

from __future__ import annotations

from footplate_contracts.names import Cause, Reason
from footplate_contracts.reports import GenerationId
from footplate_elastic.coordinator.actions import Lost
from footplate_elastic.coordinator.failures import LISTED, FailureBook, loss_report
from tests.unit.footplate_elastic.coordinator.story import agent, failure

G1, G2 = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


def causes(book: FailureBook) -> list[Cause]:
    return [entry.failure.cause for entry in book.listed()]


def test_an_error_is_listed_at_once_and_its_echoes_never() -> None:
    book = FailureBook()
    assert book.add(agent(0), G1, failure(Cause.USER_ERROR), 0.0)
    assert not book.add(agent(1), G1, failure(Cause.COMMUNICATION), 0.1)
    book.settle(10.0)
    assert causes(book) == [Cause.USER_ERROR]


def test_an_echo_that_comes_first_gives_way() -> None:
    book = FailureBook()
    book.add(agent(1), G1, failure(Cause.COMMUNICATION), 0.0)
    assert not book.settle(0.5)
    book.add(agent(0), G1, failure(Cause.STORAGE), 0.6)
    book.settle(10.0, everything=True)
    assert causes(book) == [Cause.STORAGE]


def test_an_echo_without_a_cause_is_listed_after_three_seconds() -> None:
    book = FailureBook()
    book.add(agent(1), G1, failure(Cause.COMMUNICATION), 0.0)
    assert not book.settle(2.9)
    assert book.settle(3.0)
    assert not book.add(agent(0), G1, failure(Cause.USER_ERROR), 3.1)
    assert causes(book) == [Cause.COMMUNICATION]


def test_the_first_of_two_errors_speaks() -> None:
    book = FailureBook()
    book.add(agent(0), G1, failure(Cause.OUT_OF_MEMORY), 0.0)
    book.add(agent(1), G1, failure(Cause.USER_ERROR), 0.0)
    assert causes(book) == [Cause.OUT_OF_MEMORY]


def test_each_generation_has_its_own_failure_and_numbers_count_up() -> None:
    book = FailureBook()
    book.add(agent(0), G1, failure(), 0.0)
    book.add(agent(0), G2, failure(), 1.0)
    assert [(entry.number, entry.generation) for entry in book.listed()] == [(1, G1), (2, G2)]


def test_outside_a_generation_every_failure_is_its_own() -> None:
    book = FailureBook()
    book.add(agent(0), None, failure(Cause.IMAGE_OR_CONFIG), 0.0)
    book.add(agent(1), None, failure(Cause.IMAGE_OR_CONFIG), 0.0)
    assert len(book.listed()) == 2
    assert not book.add(agent(1), None, failure(Cause.IMAGE_OR_CONFIG), 5.0), "it is said again"
    assert book.add(agent(1), None, failure(Cause.IMAGE_OR_CONFIG, time=6.0), 6.0)


def test_the_list_keeps_the_newest_and_the_numbers_go_on() -> None:
    book = FailureBook()
    for number in range(40):
        book.add(agent(0), GenerationId(epoch=1, number=number), failure(), 0.0)
    assert len(book.listed()) == LISTED
    assert book.listed()[-1].number == 40


def test_a_lost_agent_is_named_with_its_node() -> None:
    lost = Lost(
        agent(1).model_copy(update={"node_name": "node-7"}), G1, Reason.AGENT_LOST, "its connection ended"
    )
    report = loss_report(lost, step=12, wall_time=5.0)
    assert report.message == "worker 1 (run-w1-0 on node node-7) is lost: its connection ended"
    assert (report.cause, report.step, report.time) == (Cause.NODE_LOST, 12, 5.0)
