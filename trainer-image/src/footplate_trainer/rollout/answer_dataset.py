"""Answers of a rollout as the rows of a training step, with similar lengths in one micro-batch.

A row's tokens are those of the prompt and those that were sampled: never a text that is encoded again.
A sample without a reward counts nowhere: none of its labels does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from footplate_trainer.data import order
from footplate_trainer.data.datasets import Dataset
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.packing import IGNORED, Float32s, Int32s, Sample, filler_sample
from footplate_trainer.model.policy_loss import ANSWERS, TOKENS
from footplate_trainer.model.sequence_field import SequenceField
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.rollout.settings import RolloutSettings


@dataclass(frozen=True)
class AnswerRow:
    """An answer, with the numbers that its loss needs."""

    prompt: Int64s  # [p] tokens
    tokens: Int32s  # [n]
    counts: bool
    behind: int = 0  # places behind the last token that count as well: 1 or 0
    token_values: Mapping[str, Float32s] = field(default_factory=dict)  # [n + behind] each
    sequence_values: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of tokens in prompt and answer."""
        return len(self.prompt) + len(self.tokens)


def width_of(lengths: Sequence[int], context: int, multiple: int) -> int:
    """Return the width of a row that holds the longest: a multiple of 16 and of `multiple`, or `context`."""
    step = np.lcm(16, multiple)
    return int(min(context, -(-max(lengths) // step) * step))


class AnswerDataset(Dataset):
    """The answers of one rollout for its steps: all of them in each epoch, in a different order each time."""

    def __init__(
        self,
        answers: Mapping[int, AnswerRow],
        first_index: int,
        epoch: int,
        width: int,
        pad: int,
        multiple: int | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Store `answers`, by number in the rollout's order; the first has the global `first_index`.

        `epoch` is the rollout's first, counted over all rollouts. Rows are `width` wide, or, if `multiple` is
        given, as narrow as the longest row of the micro-batch allows, a multiple of it: then answers of
        similar length share a micro-batch. With `once` there is no second epoch, and fillers follow the last
        answer.
        """
        self.answers = answers
        self._numbers = np.array(list(answers), dtype=np.int64)
        self._first_index, self._epoch, self._width, self._pad = first_index, epoch, width, pad
        self._multiple, self._once = multiple, once

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self.answers)

    def sample_ids(self, seed: int, indices: Int64s) -> Int64s:
        """Return numbers of the answers at global `indices` within this rollout; FILLER after its last."""
        epochs, places = np.divmod(indices - self._first_index, len(self))
        ids = np.empty_like(indices)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            ids[here] = order.permute(seed, self._epoch + int(epoch), places[here], len(self))
        numbers = self._numbers[ids]
        return np.where(epochs > 0, order.FILLER, numbers) if self._once else numbers

    def arrange_micro_batches(self, ids: Int64s, places: Int64s) -> Int64s:
        """See Dataset: the longest first, so that a step without enough memory fails early; fillers last."""
        if self._multiple is None:
            return places
        flat = places.flatten()
        lengths = self._lengths(ids, flat)
        return flat[np.argsort(lengths, kind="stable")[::-1]].reshape(places.shape)

    def positions_by_width(self, ids: Int64s, ranks: Sequence[Int64s]) -> Mapping[int, int]:
        if self._multiple is None:
            return {}
        found = Counter[int]()
        for places in ranks:
            for row in self.arrange_micro_batches(ids, places):
                width = self._row_width(max(self._lengths(ids, row)))
                found[width] += width * len(row)
        return found

    def _lengths(self, ids: Int64s, places: Int64s) -> list[int]:
        """Return the tokens of prompt and answer at each of a step's `places`; 0 for a filler."""
        numbers = np.where(places == order.FILLER, order.FILLER, ids[places])
        return [0 if number == order.FILLER else len(self.answers[int(number)]) for number in numbers]

    def _row_width(self, longest: int) -> int:
        """Return the width of a micro-batch's rows."""
        assert self._multiple is not None
        return width_of([max(1, longest)], self._width, self._multiple)

    def pad_to_equal_width(self, samples: Sequence[Sample]) -> Sequence[Sample]:
        if self._multiple is None:
            return samples
        longest = max(int(np.count_nonzero(sample.documents >= 0)) for sample in samples)
        width = self._row_width(longest)
        return [_first_places(sample, width) for sample in samples]

    def get(self, sample_id: int, index: int = 0) -> Sample:
        """See Dataset; a row holds one answer behind its prompt."""
        row = filler_sample(self._width, self._pad)
        example = self.answers[sample_id if sample_id >= 0 else int(self._numbers[0])]
        table = np.full((1, len(SequenceField)), -1, dtype=np.int32)
        by_token = {name: np.zeros(self._width, dtype=np.float32) for name in example.token_values}
        by_sequence = {name: np.zeros(1, dtype=np.float32) for name in example.sequence_values}
        if sample_id >= 0:
            answer, length = example, len(example)
            first = len(answer.prompt) - 1  # where the answer's first token is the label
            labels = slice(first, length - 1 + answer.behind)
            row.tokens[:length] = np.concatenate((answer.prompt, answer.tokens))
            row.documents[:length] = 0
            if answer.counts:
                row.labels[labels] = np.pad(answer.tokens, (0, answer.behind))
            for name, values in answer.token_values.items():
                by_token[name][labels] = values
            for name, value in answer.sequence_values.items():
                by_sequence[name][0] = value
            counted = len(answer.tokens) + answer.behind if answer.counts else 0
            table[0] = 0, 0, len(answer.prompt), counted
        return Sample(
            row.tokens,
            row.labels,
            row.documents,
            sequences=table,
            token_values=by_token,
            sequence_values=by_sequence,
        )

    @property
    def count_names(self) -> tuple[str, ...]:
        return (TOKENS, ANSWERS)

    def counts(self, sample: Sample) -> tuple[int, ...]:
        tokens = int(np.count_nonzero(sample.labels != IGNORED))
        return tokens, int(tokens > 0)


def _first_places(row: Sample, width: int) -> Sample:
    """Return `row` cut to the first `width` positions; the rest is empty."""
    return replace(
        row,
        tokens=row.tokens[:width],
        labels=row.labels[:width],
        documents=row.documents[:width],
        token_values={name: values[:width] for name, values in row.token_values.items()},
    )


@dataclass(frozen=True)
class RowShape:
    """The shape of rows."""

    context: int
    multiple: int  # that a row's places have to be of
    fixed: bool  # all rows of a run are of one width, the context's
    pad: int
    micro_batch: int


@dataclass(frozen=True)
class RowBatcher:
    """A builder of loaders of answers."""

    settings: RolloutSettings
    grid: Grid
    shape: RowShape
    seed: int  # of the order of answers

    def loader(self, answers: Mapping[int, AnswerRow], begun: int = 0) -> BatchLoader:
        """Return a loader of `answers` by number; its first batch is that of step `begun`, from 0."""
        epoch = begun // self.settings.updates * self.settings.epochs
        return self._loader(answers, begun, epoch, once=False)

    def once(self, answers: Mapping[int, AnswerRow], begun: int = 0) -> BatchLoader:
        """Return a loader that has each answer once; the last batch is filled up to the common size.

        For scoring any number of answers: two scores of one answer may differ in their last bits, if its
        place in a micro-batch does.
        """
        # Whose batch has room for more than a rollout updates nothing with it, and begins at 0.
        epoch = begun and begun // self.settings.updates * self.settings.epochs
        return self._loader(answers, begun, epoch, once=True)

    def _loader(self, answers: Mapping[int, AnswerRow], begun: int, epoch: int, *, once: bool) -> BatchLoader:
        settings, shape = self.settings, self.shape
        longest = [len(answer) for answer in answers.values()]
        width = shape.context if shape.fixed else width_of(longest, shape.context, shape.multiple)
        return BatchLoader(
            AnswerDataset(
                answers,
                begun * settings.batch,
                epoch,
                width,
                shape.pad,
                None if shape.fixed else shape.multiple,
                once=once,
            ),
            seed=self.seed,
            global_batch_size=settings.batch,
            micro_batch_size=shape.micro_batch,
            data_rank=self.grid.coordinates.data,
            data_degree=self.grid.topology.data,
        )
