"""Answers as rows: tokens as they were drawn, and what counts of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from footplate_trainer.data import order
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.packing import IGNORED
from footplate_trainer.rollout.answer_dataset import AnswerDataset, AnswerRow, width_of

PAD = 0


def answer(first: int, prompt: int, tokens: int, *, counts: bool = True) -> AnswerRow:
    asked = np.arange(first, first + prompt, dtype=np.int64)
    drawn = np.arange(first + prompt, first + prompt + tokens, dtype=np.int32)
    return AnswerRow(
        asked,
        drawn,
        counts,
        token_values={"old": -drawn.astype(np.float32)},
        sequence_values={"coefficient": 0.5},
    )


def dataset(*answers: AnswerRow, first_index: int = 0, epoch: int = 0, once: bool = False) -> AnswerDataset:
    numbered = {10 + number: given for number, given in enumerate(answers)}
    return AnswerDataset(numbered, first_index, epoch, width=12, pad=PAD, once=once)


def test_a_label_is_the_next_token_of_the_answer_and_has_its_values_beside_it() -> None:
    row = dataset(answer(100, 3, 4)).get(10)
    assert row.tokens.tolist() == [100, 101, 102, 103, 104, 105, 106, *[PAD] * 5]
    assert row.labels.tolist() == [IGNORED, IGNORED, 103, 104, 105, 106, *[IGNORED] * 6]
    assert row.token_values["old"].tolist() == [0, 0, -103, -104, -105, -106, *[0] * 6]
    assert row.documents.tolist() == [0] * 7 + [-1] * 5
    assert row.sequences is not None and row.sequences.tolist() == [[0, 0, 3, 4]]
    assert row.sequence_values["coefficient"].tolist() == [0.5]


def test_what_has_no_reward_counts_nowhere_and_a_filler_neither() -> None:
    rows = dataset(answer(100, 3, 4), answer(200, 2, 5, counts=False))
    left_out, filler = rows.get(11), rows.get(order.FILLER)
    assert (left_out.labels == IGNORED).all() and (filler.labels == IGNORED).all()
    assert left_out.sequences[0, 3] == 0 and (filler.sequences == -1).all()
    assert [rows.counts(row) for row in (rows.get(10), left_out, filler)] == [(4, 1), (0, 0), (0, 0)]
    assert filler.token_values.keys() == left_out.token_values.keys(), "all rows of a batch have the same"


def test_each_epoch_of_a_rollout_has_all_its_answers_once_in_another_order() -> None:
    rows = dataset(*(answer(100 * n, 2, 3) for n in range(8)), first_index=80, epoch=20)
    epochs = [rows.sample_ids(3, np.arange(80 + 8 * e, 88 + 8 * e)).tolist() for e in range(3)]
    assert all(sorted(epoch) == list(range(10, 18)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_who_asks_once_has_the_order_of_the_first_epoch_and_fillers_behind_it() -> None:
    eight = [answer(100 * n, 2, 3) for n in range(8)]
    once, again = (dataset(*eight, first_index=80, epoch=20, once=once) for once in (True, False))
    asked = np.arange(80, 92)
    assert once.sample_ids(3, asked).tolist() == [*again.sample_ids(3, asked[:8]), *[order.FILLER] * 4]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_a_step_out_and_count_it_once(ranks: int) -> None:
    rows = dataset(*(answer(100 * n, 2, 3 + n % 3) for n in range(8)))
    batches = [
        BatchLoader(
            rows, seed=3, global_batch_size=4, micro_batch_size=1, data_rank=rank, data_degree=ranks
        ).build(1)
        for rank in range(ranks)
    ]
    ids = rows.sample_ids(3, np.arange(4, 8)).tolist()
    assert [batch.sample_ids.tolist() for batch in batches] == [ids] * ranks
    assert sum(batch.counts["answers"] for batch in batches) == 4
    assert sum(batch.counts["tokens"] for batch in batches) == sum(3 + (n - 10) % 3 for n in ids)
    assert len({len(batch.micro_batches) for batch in batches}) == 1


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_answers_of_about_one_length_share_a_micro_batch_that_is_no_wider_than_they_need(ranks: int) -> None:
    answers = {n: answer(100 * n, 2, 1 + 20 * (n % 4)) for n in range(8)}
    computed, told = Counter[int](), []
    for rank in range(ranks):
        loader = BatchLoader(
            AnswerDataset(answers, 0, 0, width=96, pad=PAD, multiple=1),
            seed=3,
            global_batch_size=8,
            micro_batch_size=2,
            data_rank=rank,
            data_degree=ranks,
        )
        batch = loader.build(0)
        lengths = [
            [len(answers[batch.sample_ids[place]]) if place != order.FILLER else 0 for place in micro.places]
            for micro in batch.micro_batches
        ]
        in_order = [length for row in lengths for length in row]
        assert in_order == sorted(in_order, reverse=True)
        assert [micro.tokens.shape[1] for micro in batch.micro_batches] == [
            width_of([max(1, *row)], 96, 1) for row in lengths
        ]
        for micro in batch.micro_batches:
            for place, tokens in zip(micro.places, micro.tokens, strict=True):
                given = answers.get(int(batch.sample_ids[place])) if place != order.FILLER else None
                assert given is None or tokens[: len(given)].tolist() == [*given.prompt, *given.tokens]
            computed[micro.tokens.shape[1]] += micro.tokens.size
        told.append(dict(batch.places))
    assert told == [computed] * ranks, "each rank says what all compute"


@pytest.mark.parametrize(
    ("lengths", "context", "multiple", "width"),
    [
        pytest.param([10, 40], 512, 1, 48, id="a-tile"),
        pytest.param([49], 512, 1, 64, id="the-next"),
        pytest.param([500], 512, 1, 512, id="nearly-all"),
        pytest.param([90], 96, 1, 96, id="no-more-than-the-context"),
        pytest.param([10], 768, 6, 48, id="pieces-of-ranks"),
    ],
)
def test_rows_are_as_wide_as_the_longest_needs(
    lengths: list[int], context: int, multiple: int, width: int
) -> None:
    assert width_of(lengths, context, multiple) == width
