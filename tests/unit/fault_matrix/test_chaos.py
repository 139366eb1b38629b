"""What comes in a storm: by its seed, of every family, from the first second on."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.support.matrix import Family
from tests.system.faults.chaos import COUNT, STORM, draw


@pytest.mark.parametrize("seed", range(10))
def test_a_storm_has_faults_of_every_family_from_the_first_second_on(seed: int) -> None:
    drawn = draw(random.Random(seed))
    counts = Counter(drawn.fault.family for drawn in drawn)
    assert len(drawn) == COUNT == 50
    assert set(counts) == set(Family) and max(counts.values()) - min(counts.values()) <= 1
    assert [item.seconds for item in drawn] == sorted(item.seconds for item in drawn)
    assert drawn[0].seconds <= 1.0 and drawn[-1].seconds <= STORM


def test_a_seed_is_a_storm() -> None:
    assert draw(random.Random(3)) == draw(random.Random(3)) != draw(random.Random(4))
