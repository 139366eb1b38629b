"""Which prompts a rollout asks, with others in the place of groups that teach nothing."""

from __future__ import annotations

import random

import pytest

from footplate_trainer.rollout.groups import GroupPlan, find_next_prompts, select_prompts


def played(plan: GroupPlan, first: int, dull: set[int]) -> tuple[list[int], list[int], int]:
    """All places that are asked, those trained on, and how often others were asked for."""
    teaches: dict[int, bool] = {}
    while (round_ := find_next_prompts(plan, first, teaches)).places:
        teaches |= {place: place not in dull for place in round_.places}
    return sorted(teaches), select_prompts(plan, first, teaches), round_.rounds


@pytest.mark.parametrize(
    ("rounds", "dull", "all_asked", "trained", "replaced"),
    [
        pytest.param(0, {1}, [0, 1, 2, 3], [0, 1, 2, 3], 0, id="without"),
        pytest.param(9, set(), [0, 1, 2, 3], [0, 1, 2, 3], 0, id="all-teach"),
        pytest.param(9, {1, 2}, [0, 1, 2, 3, 4, 5], [0, 3, 4, 5], 1, id="two-are-replaced"),
        pytest.param(9, {1, 2, 4}, [0, 1, 2, 3, 4, 5, 6], [0, 3, 5, 6], 2, id="one-of-those-too"),
        pytest.param(1, {1, 2, 4}, [0, 1, 2, 3, 4, 5], [0, 1, 3, 5], 1, id="then-as-it-is"),
    ],
)
def test_rounds(rounds: int, dull: set[int], all_asked: list[int], trained: list[int], replaced: int) -> None:
    assert played(GroupPlan(4, rounds), 0, dull) == (all_asked, trained, replaced)


def test_rollouts_ask_each_place_once_and_train_on_no_group_twice() -> None:
    chance, plan, first, seen = random.Random(1), GroupPlan(3, 4), 0, []
    for _ in range(50):
        dull = {place for place in range(first, first + 100) if chance.random() < 0.6}
        places, trained, _ = played(plan, first, dull)
        assert places[0] == first and len(trained) == 3 and set(trained) <= set(places)
        seen += places
        first = places[-1] + 1
    assert seen == list(range(first))
