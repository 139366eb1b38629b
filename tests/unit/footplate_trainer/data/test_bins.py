"""Best fit, decreasing: by its own rule, one sample at a time, and by what it leaves unused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from footplate_trainer.data.bins import best_fit
from footplate_trainer.data.order import Int64s

SIZE = 24


def ints(*values: int) -> Int64s:
    return np.array(values, dtype=np.int64)


def one_by_one(lengths: list[int], size: int) -> list[tuple[int, int]]:
    """(bin, start) of each: the textbook's loop, which looks at every bin for every sample."""
    rooms: list[tuple[int, int]] = []  # (room, when it came to have that)
    found = {}
    for turn, sample in enumerate(sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))):
        fitting = [number for number, (room, _) in enumerate(rooms) if room >= lengths[sample]]
        if not fitting:
            rooms.append((size, turn))
            fitting = [len(rooms) - 1]
        chosen = min(fitting, key=lambda number: rooms[number])
        room, _ = rooms[chosen]
        found[sample] = (chosen, size - room)
        rooms[chosen] = (room - lengths[sample], turn)
    return [found[sample] for sample in range(len(lengths))]


@given(st.lists(st.integers(1, SIZE), max_size=80))
def test_whole_kinds_go_where_single_samples_would(lengths: list[int]) -> None:
    bins = best_fit(ints(*lengths), SIZE)
    assert list(zip(bins.bin.tolist(), bins.start.tolist(), strict=True)) == one_by_one(lengths, SIZE)


@given(st.lists(st.integers(1, SIZE), min_size=1, max_size=80))
def test_every_sample_lies_in_one_bin_and_none_on_another(lengths: list[int]) -> None:
    bins = best_fit(ints(*lengths), SIZE)
    held = [bins.samples(number) for number in range(len(bins))]
    assert sorted(np.concatenate(held).tolist()) == list(range(len(lengths)))
    for samples in held:
        starts = bins.start[samples]
        # Without gaps: what is unused lies behind the last one.
        assert starts.tolist() == [0, *np.cumsum(bins.lengths[samples])[:-1]]
        assert starts[-1] + bins.lengths[samples[-1]] <= SIZE
    assert bins.most == max(map(len, held))
    assert bins.used == pytest.approx(sum(lengths) / (len(bins) * SIZE))


@pytest.mark.parametrize(
    ("lengths", "bins"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([24, 24], [[0], [1]], id="full"),
        pytest.param([4, 20, 10, 14], [[1, 0], [3, 2]], id="the-longest-first"),
        pytest.param([16, 20, 4, 4], [[1, 2], [0, 3]], id="the-tightest"),
        pytest.param([8] * 7, [[0, 1, 2], [3, 4, 5], [6]], id="the-first-of-equals-first"),
    ],
)
def test_bins_of_a_few(lengths: list[int], bins: list[list[int]]) -> None:
    found = best_fit(ints(*lengths), SIZE)
    assert [found.samples(number).tolist() for number in range(len(found))] == bins


def test_half_a_million_samples_leave_little_unused() -> None:
    draws = np.random.default_rng(3).lognormal(np.log(300), 0.9, 500_000)
    bins = best_fit(np.clip(draws, 1, 4096).astype(np.int64), 4096)
    assert bins.used > 0.999


@pytest.mark.parametrize("seed", range(5))
def test_some_hundred_conversations_leave_little_unused(seed: int) -> None:
    # As long as questions and answers are: on average a third of the context, few as long as that.
    draws = np.random.default_rng(seed).lognormal(np.log(263), 0.7, 300)
    bins = best_fit(np.clip(draws, 40, 1024).astype(np.int64), 1024)
    assert bins.used >= 0.98


def test_a_sample_that_fits_no_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="lengths are 0 … 25, but a bin holds 1 … 24 tokens"):
        best_fit(ints(0, 25), SIZE)
