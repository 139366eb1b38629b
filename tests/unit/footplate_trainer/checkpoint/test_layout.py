"""Names, and what retention keeps."""

from __future__ import annotations

import math
import random

import pytest

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.layout import (
    CheckpointRetention,
    CommitMarker,
    GenerationStart,
    StepDirectory,
    find_outdated,
    find_superseded,
    list_standing,
    marker_name,
    marker_step,
    removable_directories,
)


def digest(step: int) -> str:
    """As long as one is."""
    return f"{step:064x}"


def marker(step: int, loss: float | None = None) -> CommitMarker:
    """Of generation 1.2."""
    return CommitMarker(
        step=step,
        directory=f"step-{step}.e1g2",
        tokens=0,
        time=0.0,
        digest=digest(step),
        validation_loss=loss,
    )


def test_names_are_read_as_they_are_written() -> None:
    directory = StepDirectory.of(200, GenerationId(epoch=1, number=3))

    assert directory.name == "step-200.e1g3"
    assert StepDirectory.parse(directory.name) == directory
    assert marker_step(marker_name(200)) == 200


@pytest.mark.parametrize("name", ["step-200.committed", "step-x.e1g1", "step-1.e1g1.tmp", "lost+found"])
def test_other_names_are_no_directories(name: str) -> None:
    assert StepDirectory.parse(name) is None


@pytest.mark.parametrize("name", ["step-200.e1g3", "step-.committed", "step-1.committed~"])
def test_other_names_are_no_markers(name: str) -> None:
    assert marker_step(name) is None


@pytest.mark.parametrize(
    ("committed", "last", "every", "kept"),
    [
        pytest.param([10, 20, 30], 2, None, {20, 30}, id="the-newest"),
        pytest.param([10, 20, 30], 5, None, {10, 20, 30}, id="fewer-than-allowed"),
        pytest.param([10, 20, 30, 40], 1, 20, {20, 40}, id="and-the-multiples"),
        pytest.param([30, 10, 40, 20], 1, 20, {20, 40}, id="in-any-order"),
        pytest.param([3, 4], 1, 5, {4}, id="no-multiple-among-them"),
        pytest.param([5], 1, None, {5}, id="the-only-one"),
        pytest.param([], 3, 10, set(), id="none"),
    ],
)
def test_retained_steps(committed: list[int], last: int, every: int | None, kept: set[int]) -> None:
    assert CheckpointRetention(last, every).select_steps(map(marker, committed)) == kept


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        pytest.param({10: 3.0, 20: 2.0, 30: 2.5, 40: None}, {20, 40}, id="the-best"),
        pytest.param({10: 2.0, 20: 2.0, 30: 3.0}, {20, 30}, id="the-newest-of-equals"),
        pytest.param({10: math.nan, 20: -math.inf, 30: 4.0, 40: 5.0}, {30, 40}, id="numbers-only"),
        pytest.param({10: 3.0, 20: 2.0}, {20}, id="which-may-be-the-newest"),
    ],
)
def test_the_best_by_validation_loss_stays(losses: dict[int, float | None], kept: set[int]) -> None:
    assert CheckpointRetention(1).select_steps(marker(step, loss) for step, loss in losses.items()) == kept


def test_a_step_that_is_kept_by_name_stays_if_it_is_there() -> None:
    assert CheckpointRetention(1, kept=frozenset({10, 15})).select_steps(map(marker, [10, 20, 30])) == {
        10,
        30,
    }


def test_a_run_is_told_of_the_newest_and_of_what_is_kept_by_name() -> None:
    retention = CheckpointRetention(100, kept=frozenset({1}))
    told = list_standing([marker(step, 1.0 if step == 2 else 2.0) for step in range(1, 101)], retention)

    assert [found.step for found in told] == [*range(100, 70, -1), 2, 1]
    assert (told[0].generation, told[0].digest) == (GenerationId(epoch=1, number=2), digest(100))
    assert list_standing([], retention) == []


def test_losers_and_remains_go_and_what_is_ahead_stays() -> None:
    kept, old, loser, newer, mine, ahead, left = (
        StepDirectory(20, 1, 2),
        StepDirectory(10, 1, 1),
        StepDirectory(20, 1, 1),
        StepDirectory(20, 1, 3),
        StepDirectory(15, 1, 2),
        StepDirectory(25, 1, 2),
        StepDirectory(25, 1, 1),
    )

    found = removable_directories(
        [kept, old, loser, newer, mine, ahead, left], kept=[kept], writing=GenerationId(epoch=1, number=2)
    )

    assert found == [old, loser, mine, left]


def begun(step: int, number: int, run: str = "uid") -> GenerationStart:
    return GenerationStart(step, 1, number, run)


@pytest.mark.parametrize("run", ["uid", "7f3c-11", ""])
def test_what_a_generation_began_with_is_read_as_it_is_written(run: str) -> None:
    found = GenerationStart.of(20, GenerationId(epoch=1, number=3), run)
    assert found.name == f"begun-20.e1g3.{run}"
    assert GenerationStart.parse(found.name) == found
    assert GenerationStart.parse("step-20.e1g3") is None and StepDirectory.parse(found.name) is None


@pytest.mark.parametrize(
    ("step", "number", "given_up"),
    [
        pytest.param(30, 1, True, id="beyond"),
        pytest.param(20, 1, False, id="what-it-went-on-from"),
        pytest.param(30, 2, False, id="its-own"),
        pytest.param(30, 3, False, id="of-a-later-one"),
    ],
)
def test_what_a_beginning_gives_up(step: int, number: int, given_up: bool) -> None:
    assert begun(20, 2).discards(step, GenerationId(epoch=1, number=number)) is given_up


def test_a_beginning_makes_those_needless_that_say_no_more() -> None:
    earlier, same, later, newer = begun(10, 1), begun(20, 2), begun(30, 3), begun(40, 9)
    foreign = begun(5, 9, run="other")
    assert find_superseded(begun(20, 4), [earlier, same, later, newer, foreign]) == [same, later]


def test_a_durable_checkpoint_makes_those_needless_before_the_last_one_below_it() -> None:
    known = [begun(0, 1), begun(20, 2), begun(40, 3), begun(60, 4), begun(90, 1, run="other")]
    assert find_outdated(known, durable=50) == [begun(0, 1), begun(20, 2)]
    assert find_outdated(known, durable=20) == []


@pytest.mark.parametrize("seed", range(50))
def test_nothing_that_was_given_up_comes_back_as_needless_notes_go(seed: int) -> None:
    chance = random.Random(seed)
    every, kept = list[GenerationStart](), list[GenerationStart]()
    durable = 0
    for number in range(1, 12):
        latest = begun(chance.randint(durable, durable + 20), number)
        every.append(latest)
        gone = find_superseded(latest, kept)
        kept = [*(other for other in kept if other not in gone), latest]
        if chance.random() < 0.3:
            durable = latest.step + chance.randint(1, 10)
            gone = find_outdated(kept, durable)
            kept = [other for other in kept if other not in gone]
        for step in range(durable, durable + 40):  # an older one is not looked at
            for whose in range(number + 1):
                generation = GenerationId(epoch=1, number=whose)
                assert any(later.discards(step, generation) for later in kept) == any(
                    later.discards(step, generation) for later in every
                )
