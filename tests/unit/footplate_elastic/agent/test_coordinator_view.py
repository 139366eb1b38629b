"""Answers that are late, lost or from another epoch must not stop healthy ranks."""

from __future__ import annotations

import pytest

from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.rendezvous import HeartbeatResponse
from footplate_contracts.reports import GenerationId
from footplate_elastic.agent.coordinator_view import CoordinatorView


def generation(text: str) -> GenerationId | None:
    return GenerationId.parse(text) if text else None


def answer(epoch: int, newest: str = "", opened: bool = False, **more: object) -> HeartbeatResponse:
    return HeartbeatResponse.model_validate(
        {"epoch": epoch, "generation": generation(newest), "rendezvous_open": opened, **more}
    )


@pytest.mark.parametrize(
    ("told", "running", "rejoin"),
    [
        pytest.param(answer(1, "1.1"), "1.1", False, id="all is well"),
        pytest.param(answer(1, "1.1", True), "1.1", True, id="ours is broken"),
        pytest.param(answer(1, "1.1", True), "1.2", False, id="told before our seal"),
        pytest.param(answer(1, "", True), "1.1", False, id="told before the first seal"),
        pytest.param(answer(1, "1.2"), "1.1", True, id="a newer one runs"),
        pytest.param(answer(2), "1.3", False, id="new epoch knows nothing yet"),
        pytest.param(answer(2, "1.3"), "1.3", False, id="new epoch adopted ours"),
        pytest.param(answer(2, "1.3", True), "1.3", True, id="new epoch opens"),
        pytest.param(answer(2, "", True), "1.3", True, id="new epoch opens, knows none"),
        pytest.param(answer(2, "1.3", True), "2.1", False, id="told before the new epoch's seal"),
        pytest.param(answer(1, "1.1", closed=True), "1.1", True, id="the run is over"),
        pytest.param(answer(1, "1.1", evicted=True), "1.1", True, id="evicted"),
    ],
)
def test_when_ranks_must_stop(told: HeartbeatResponse, running: str, rejoin: bool) -> None:
    view = CoordinatorView()
    view.merge_answer(told)
    assert view.must_rejoin(GenerationId.parse(running)) is rejoin


def test_an_older_answer_that_arrives_later_changes_nothing() -> None:
    view = CoordinatorView()
    view.merge_answer(answer(1, "1.2"))
    view.merge_answer(answer(1, "1.1", True))
    assert view.answer == answer(1, "1.2")


def test_sealed_then_broken_is_the_order_within_a_generation() -> None:
    view = CoordinatorView()
    view.merge_answer(answer(1, "1.2", True))
    view.merge_answer(answer(1, "1.2", False))
    assert view.must_rejoin(GenerationId.parse("1.2"))


def test_eviction_and_closing_are_never_taken_back() -> None:
    view = CoordinatorView()
    view.merge_answer(answer(1, "1.1", evicted=True, closed=True))
    view.merge_answer(answer(1, "1.2"))
    assert view.evicted and view.closed


def test_a_new_coordinator_has_received_nothing() -> None:
    view = CoordinatorView()
    view.merge_answer(answer(1, "1.1", received=9))
    view.merge_answer(answer(2, received=0))
    assert view.received == 0


def test_received_does_not_fall_back_within_an_epoch() -> None:
    view = CoordinatorView()
    view.merge_answer(answer(1, "1.1", received=9))
    view.merge_answer(answer(1, "1.1", received=5))
    assert view.received == 9


def test_of_limits_the_newest_count_in_whatever_order_they_come() -> None:
    view = CoordinatorView()
    told = [
        NumberedLimits(steps=steps, every_steps=1, keep_last=1, epoch=epoch, number=number)
        for epoch, number, steps in ((1, 2, 20), (1, 1, 10), (2, 1, 15), (1, 3, 30))
    ]
    seen = []
    for limits in told:
        view.merge_answer(answer(limits.epoch, "1.1", limits=limits))
        seen.append(view.limits.steps if view.limits else None)
    assert seen == [20, 20, 15, 15]
    view.merge_answer(answer(2, "1.1"))
    assert view.limits == told[2], "a coordinator that does not know yet takes nothing back"


def test_a_command_stands_until_it_is_taken_back() -> None:
    view, seen = CoordinatorView(), []
    for command in (Command.CHECKPOINT_AND_EXIT, Command.NONE):
        view.merge_answer(answer(1, "1.1", command=command))
        seen.append(view.command)
    assert seen == [Command.CHECKPOINT_AND_EXIT, Command.NONE]


def test_a_question_to_the_ranks_is_handed_out_once_in_each_epoch() -> None:
    view = CoordinatorView()
    asked = [
        answer(epoch, "1.1", diagnosis={"kind": "trace", "number": number})
        for epoch, number in ((1, 1), (1, 1), (1, 2), (2, 1))
    ]
    handed_out = []
    for told in [answer(1, "1.1"), *asked]:
        view.merge_answer(told)
        question = view.next_diagnosis()
        handed_out.append(question.number if question else None)
    assert handed_out == [None, 1, None, 2, 1]
