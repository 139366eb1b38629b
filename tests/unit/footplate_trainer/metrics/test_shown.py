"""Which samples of a step are shown, whoever has them and in whatever order."""

from __future__ import annotations

import math
import random

import pytest

from footplate_contracts.samples import MOST
from footplate_trainer.rollout.row_samples import EXTREMES, SampleCandidate, select_samples


def drawn(chance: random.Random, number: int) -> list[SampleCandidate]:
    """Answers to a few prompts, with few different rewards, and with some that have none."""
    worths = [-1.0, 0.0, 0.5, 1.0, None, math.nan]
    return [SampleCandidate(place // 4, place % 4, chance.choice(worths)) for place in range(number)]


def names(step: int, candidates: list[SampleCandidate]) -> list[tuple[int, int]]:
    return [
        (candidates[place].prompt, candidates[place].sibling) for place in select_samples(step, candidates)
    ]


def test_best_and_worst_come_first_and_others_by_lot() -> None:
    some = [SampleCandidate(7, sibling, float(sibling)) for sibling in range(50)]
    found = select_samples(1, some)
    assert found[: 2 * EXTREMES] == [49, 48, 0, 1]
    assert len(set(found)) == len(found) == MOST
    assert found[4:] != select_samples(2, some)[4:]


@pytest.mark.parametrize("worth", [None, math.nan, 1.0], ids=["none", "no-number", "all-alike"])
def test_what_has_no_worth_of_its_own_is_shown_by_lot(worth: float | None) -> None:
    found = select_samples(1, [SampleCandidate(0, sibling, worth) for sibling in range(50)])
    assert len(set(found)) == MOST and found != sorted(found)


@pytest.mark.parametrize("number", [0, 1, 3, 7, 8])
def test_where_there_are_few_all_are_shown(number: int) -> None:
    assert sorted(select_samples(1, drawn(random.Random(1), number))) == list(range(number))


@pytest.mark.parametrize("seed", range(50))
def test_what_ranks_choose_of_their_own_is_enough_to_choose_from(seed: int) -> None:
    chance = random.Random(seed)
    whole = drawn(chance, chance.randrange(60))
    dealt = chance.sample(whole, len(whole))
    ranks = [dealt[rank::3] for rank in range(3)]
    told = [rank[place] for rank in ranks for place in select_samples(seed, rank)]
    assert names(seed, told) == names(seed, whole)
