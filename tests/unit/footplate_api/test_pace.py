"""A thousand senders share the API: none of them in a moment that all others have chosen, too."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from footplate_api.metrics.batch_intervals import (
    LEAST,
    LONGEST,
    REMEMBERED,
    SPREAD,
    BatchIntervals,
    batch_interval,
)

SENDERS = 1000
SECONDS = 90
SETTLED = 45  # seconds after which the beginning should be forgotten


@pytest.mark.parametrize(
    ("senders", "chance", "seconds"),
    [
        pytest.param(1, 0.0, LEAST, id="alone"),
        pytest.param(100, 0.999, pytest.approx(0.62, abs=0.01), id="a-few"),
        pytest.param(1000, 0.5, 5.0, id="many"),
        pytest.param(1000, 0.0, 5.0 * (1 - SPREAD), id="many-and-early"),
        pytest.param(10**6, 0.5, LONGEST, id="at-most"),
    ],
)
def test_the_more_senders_the_longer_they_gather(senders: int, chance: float, seconds: float) -> None:
    assert batch_interval(senders, chance) == seconds


def test_who_sends_no_more_is_forgotten() -> None:
    pace = BatchIntervals(random.Random(1))
    for number in range(SENDERS):
        pace.gather_seconds(f"uid-{number}", 0.0)
    assert pace.gather_seconds("uid-0", 1.0) > LEAST
    assert pace.gather_seconds("uid-0", 1.0 + REMEMBERED) == LEAST


def batches_each_tenth(step_of: list[float]) -> Counter[int]:
    """Batches in each tenth of a second, of senders that have a row a second, the first at `step_of`.

    A sender waits for a row, gathers for as long as the last receipt asked for, and sends what it has.
    """
    pace, gather, sent = BatchIntervals(random.Random(7)), [LEAST] * len(step_of), Counter[int]()
    line = [(first, number, False) for number, first in enumerate(step_of)]
    heapq.heapify(line)
    while line and line[0][0] < SECONDS:
        now, number, sends = heapq.heappop(line)
        if not sends:
            heapq.heappush(line, (now + gather[number], number, True))
            continue
        sent[int(10 * now)] += 1
        gather[number] = pace.gather_seconds(f"uid-{number}", now)
        since = now - step_of[number]
        heapq.heappush(line, (now + 1.0 - since % 1.0, number, False))  # with the next row
    return sent


@pytest.mark.parametrize(
    "step_of",
    [
        pytest.param([1.0] * SENDERS, id="all-step-in-one-moment"),
        pytest.param([1.0 + number / SENDERS for number in range(SENDERS)], id="in-turns"),
    ],
)
def test_senders_that_began_together_do_not_stay_together(step_of: list[float]) -> None:
    sent = batches_each_tenth(step_of)
    settled = [sent[tenth] for tenth in range(10 * SETTLED, 10 * SECONDS)]
    assert 15 < sum(settled) / len(settled) < 21
    assert max(settled) < 50  # of all senders in equal steps it would be a hundred and more, for good
