"""The batches of a step for one data rank.

Every rank computes for itself its samples (see `order`), so a loader has no state to save or transfer:
`step(k)` may be called in any order, in any world. While a step computes, a single background thread builds
the next batch; the thread starts with the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footplate_trainer.data import order
from footplate_trainer.data.datasets import Dataset
from footplate_trainer.data.order import Int64s
from footplate_trainer.data.packing import Float32s, Floats, Int32s, Sample
from footplate_trainer.model.sequence_field import SequenceField


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The input of one forward pass: b samples in n sequences of S tokens.

    n = b, but for pairs 2b: sequence 2i is a query, 2i + 1 its positive. A filler, which makes the ranks'
    shares equal, has no label that counts and is not real.
    """

    tokens: Int64s  # [n, S]; the encoder's, where there are two inputs
    labels: Int64s  # [n, S], or [n, T] beside decoder_tokens; all IGNORED for pairs and values
    documents: Int32s  # [n, S]: equal where attention is allowed, -1 on padding
    values: NDArray[np.float32]  # [b], what a regression should give; 0 in other formats
    real: NDArray[np.bool_]  # [b], False for fillers
    places: Int64s  # [n], where in the global batch each sequence's sample stands; FILLER for fillers
    decoder_tokens: Int64s | None = None  # [n, T], starting with pad
    decoder_documents: Int32s | None = None  # [n, T], in the numbers of `documents`; -1 on padding
    # [n, D, 4], see SequenceField: what a loss of whole sequences knows of those in a row, by number of a
    # document; -1 beyond the last. D is the data set's, so that all micro-batches have one shape.
    sequences: Int32s | None = None
    token_values: Mapping[str, Float32s] = field(default_factory=dict)  # [n, S] each, of labels
    sequence_values: Mapping[str, Floats] = field(default_factory=dict)  # [n, D] each


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The share of one data rank in a step."""

    micro_batches: list[MicroBatch]  # equally many on every data rank
    sample_ids: Int64s  # [global batch], the same on every rank
    # Of this rank, by name: labels that count, or texts, and what else its data set counts. A step's loss is
    # divided by a global sum.
    counts: Mapping[str, int]
    # Of all data ranks: places that are computed, by the width of their rows; none where it is the context.
    places: Mapping[int, int] = field(default_factory=dict)

    @property
    def sample_digest(self) -> str:
        """The step's sample digest, the same on every rank."""
        return order.sample_digest(self.sample_ids)


class BatchLoader:
    """The loader of one data rank: `step(k)` returns a batch and prepares the next in the background."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        seed: int,
        global_batch_size: int,
        micro_batch_size: int,
        data_rank: int = 0,
        data_degree: int = 1,
    ) -> None:
        self.dataset = dataset
        self.seed = seed
        self.global_batch_size = global_batch_size
        self._ranks = [
            order.shard_batch(global_batch_size, micro_batch_size, data_degree, rank)
            for rank in range(data_degree)
        ]
        self._rank = data_rank
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="footplate-data")
        self._ahead: tuple[int, Future[StepBatch]] | None = None

    def step(self, step: int) -> StepBatch:
        """Return the batch of `step`, from 0; global samples [step·B, (step+1)·B)."""
        if self._ahead is not None and self._ahead[0] == step:
            batch = self._ahead[1].result()
        else:
            batch = self.build(step)
        self._ahead = step + 1, self._executor.submit(self.build, step + 1)
        return batch

    def build(self, step: int) -> StepBatch:
        """Build the batch of `step` in this thread."""
        indices = order.global_indices(step, self.global_batch_size)
        ids = self.dataset.sample_ids(self.seed, indices)
        micro_batches = []
        names = self.dataset.count_names
        counts = np.zeros(len(names), dtype=np.int64)
        for row in self.dataset.arrange_micro_batches(ids, self._ranks[self._rank]):
            samples = [self._sample(ids, indices, int(place)) for place in row]
            real = row != order.FILLER
            micro_batches.append(_stacked(self.dataset.pad_to_equal_width(samples), row))
            for sample in compress(samples, real):
                counts += self.dataset.counts(sample)
        told = dict(zip(names, counts.tolist(), strict=True))
        return StepBatch(micro_batches, ids, told, self.dataset.positions_by_width(ids, self._ranks))

    def close(self) -> None:
        """Stop the background thread."""
        self._executor.shutdown(cancel_futures=True)

    def _sample(self, ids: Int64s, indices: Int64s, place: int) -> Sample:
        if place == order.FILLER:
            return self.dataset.get(order.FILLER)
        handed = self.dataset.document_for_next(int(ids[place - 1]))
        return self.dataset.get_with_document(int(ids[place]), int(indices[place]), handed)


def _stacked(samples: Sequence[Sample], places: Int64s) -> MicroBatch:
    tokens = np.vstack([sample.tokens for sample in samples])
    return MicroBatch(
        tokens,
        np.vstack([sample.labels for sample in samples]),
        np.vstack([sample.documents for sample in samples]),
        np.array([sample.value for sample in samples], dtype=np.float32),
        places != order.FILLER,
        np.repeat(places, len(tokens) // len(places)),
        _stacked_or_none([sample.decoder_tokens for sample in samples]),
        _stacked_or_none([sample.decoder_documents for sample in samples]),
        _in_the_batch(_stacked_or_none([sample.sequences for sample in samples], 2), places),
        _stacked_by_name([sample.token_values for sample in samples]),
        _stacked_by_name([sample.sequence_values for sample in samples]),
    )


def _in_the_batch(sequences: Int32s | None, places: Int64s) -> Int32s | None:
    """Number the samples of `sequences` within the global batch instead of within their rows."""
    if sequences is None:
        return None
    numbers = sequences[..., SequenceField.SAMPLE]
    by_row = np.repeat(places, len(sequences) // len(places))[:, None] * sequences.shape[1]
    sequences[..., SequenceField.SAMPLE] = np.where(numbers >= 0, numbers + by_row, numbers)
    return sequences


def _stacked_by_name(rows: list[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Stack the arrays of equal names in all rows; a sample may have several rows."""
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: values.reshape(-1, values.shape[-1]) for name, values in stacked.items()}


def _stacked_or_none(rows: list[NDArray[Any] | None], dimensions: int = 1) -> NDArray[Any] | None:
    """Concatenate the rows, or return None if there are none.

    A row has `dimensions`; a sample may have several rows.
    """
    present = [row for row in rows if row is not None]
    return np.concatenate([row.reshape(-1, *row.shape[-dimensions:]) for row in present]) if present else None
