"""The order of the data must be a permutation, look random, and never change."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from footplate_trainer.data.order import (
    FILLER,
    global_indices,
    permute,
    sample_digest,
    sample_ids,
    shard_batch,
)


@pytest.mark.parametrize("size", [*range(1, 40), 97, 100, 1000, 4096, 4097, 99_991])
def test_an_epoch_holds_each_sample_once(size: int) -> None:
    shuffled = permute(7, 3, np.arange(size, dtype=np.int64), size)
    assert np.array_equal(np.sort(shuffled), np.arange(size))


# Computed by a second implementation, one value at a time in plain Python integers.
@pytest.mark.parametrize(
    ("seed", "epoch", "size", "expected"),
    [
        pytest.param(0, 0, 10, "8b2d36cf74168eda", id="ten"),
        pytest.param(1234, 0, 1000, "5e066429704ec8ee", id="thousand"),
        pytest.param(1234, 7, 1000, "d1cff32f948ed2c2", id="later-epoch"),
        pytest.param(4_294_967_295, 2, 99_991, "dc9dc7aa25f0d707", id="largest-seed"),
    ],
)
def test_the_order_of_old_runs_stays_what_it_was(seed: int, epoch: int, size: int, expected: str) -> None:
    assert sample_digest(permute(seed, epoch, np.arange(size, dtype=np.int64), size)) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((1, 0), (2, 0), id="seeds"),
        pytest.param((1, 0), (1, 1), id="epochs"),
    ],
)
def test_another_key_gives_another_order(first: tuple[int, int], second: tuple[int, int]) -> None:
    values = np.arange(1000, dtype=np.int64)
    same = permute(*first, values, 1000) == permute(*second, values, 1000)
    assert same.sum() < 10  # chance: 1 of 1000 in the mean


def test_every_order_of_four_samples_is_about_equally_likely() -> None:
    values = np.arange(4, dtype=np.int64)
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(2400):
        key = tuple(permute(11, epoch, values, 4).tolist())
        counts[key] = counts.get(key, 0) + 1
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert len(counts) == 24
    assert chi_square < 49.7  # 23 degrees of freedom, p = 0.001


def test_neighbours_are_thrown_far_apart() -> None:
    size = 10_000
    shuffled = permute(5, 0, np.arange(size, dtype=np.int64), size)
    # Of a random permutation the mean distance is a third, neighbours correlate by about 1/sqrt(n).
    assert np.abs(np.diff(shuffled)).mean() == pytest.approx(size / 3, rel=0.03)
    assert abs(np.corrcoef(shuffled[:-1], shuffled[1:])[0, 1]) < 0.04


def test_one_index_at_a_time_gives_the_same_order_as_all_at_once() -> None:
    indices = np.arange(250, dtype=np.int64)
    singly = [int(sample_ids(3, np.array([index]), 100)[0]) for index in indices]
    assert singly == sample_ids(3, indices, 100).tolist()


def test_a_step_across_the_end_of_an_epoch_ends_one_and_begins_the_next() -> None:
    epochs = [set(sample_ids(9, np.arange(start, start + 10), 10).tolist()) for start in (0, 10, 20)]
    across = sample_ids(9, np.arange(6, 14), 10)
    assert all(epoch == set(range(10)) for epoch in epochs)
    assert set(across[:4].tolist()) | set(sample_ids(9, np.arange(6), 10).tolist()) == set(range(10))


def test_far_indices_do_not_overflow() -> None:
    ids = sample_ids(1, np.array([2**62, 2**62 + 1]), 3_000_000_000)
    assert ((ids >= 0) & (ids < 3_000_000_000)).all()


def test_steps_take_consecutive_global_indices() -> None:
    assert global_indices(0, 3).tolist() == [0, 1, 2]
    assert global_indices(5, 3).tolist() == [15, 16, 17]


def test_the_digest_is_sha256_over_little_endian_int64() -> None:
    ids = [3, 1, 2**40]
    expected = hashlib.sha256(struct.pack("<3q", *ids)).hexdigest()[:16]
    assert sample_digest(np.array(ids)) == expected
    assert sample_digest(np.array([1, 3, 2**40])) != expected


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        pytest.param(0, [[0, 1], [6, 7]], id="two-of-its-own"),
        pytest.param(1, [[2, 3], [FILLER, FILLER]], id="one-and-a-filler"),
        pytest.param(2, [[4, 5], [FILLER, FILLER]], id="last"),
    ],
)
def test_micro_batches_are_dealt_round_robin(rank: int, expected: list[list[int]]) -> None:
    assert shard_batch(8, 2, 3, rank).tolist() == expected


@pytest.mark.parametrize("degree", range(1, 12))
def test_dealing_gives_each_place_to_one_rank_and_equal_work_to_all(degree: int) -> None:
    hands = [shard_batch(24, 3, degree, rank) for rank in range(degree)]
    places = np.concatenate([hand.ravel() for hand in hands])
    assert sorted(places[places != FILLER].tolist()) == list(range(24))
    assert {hand.shape for hand in hands} == {(-(-8 // degree), 3)}


@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(
            lambda: shard_batch(10, 4, 1, 0), "globalBatchSize 10 .* microBatchSize 4", id="not-divisible"
        ),
        pytest.param(lambda: shard_batch(8, 2, 2, 2), r"data rank 2 is outside 0 … 1", id="no-such-rank"),
        pytest.param(lambda: sample_ids(0, np.arange(3), 0), "0 samples", id="no-samples"),
        pytest.param(lambda: global_indices(-1, 8), "step -1", id="negative-step"),
    ],
)
def test_what_cannot_be_dealt_is_refused_by_name(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()
