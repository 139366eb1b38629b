"""The batches of a step, dealt to one data rank.

Every rank computes for itself which samples it trains on (see `order`), so a
loader has no state to save or hand over: `step(k)` may be asked in any order,
by any world. While a step computes, the next one is cut in a single background
thread. That thread starts with the first step, because ranks are forked from a
process that must not have any.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from footplate_trainer.data import order, packing
from footplate_trainer.data.packing import IGNORED, Sample
from footplate_trainer.data.shards import TokenShards

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]


class SequenceDataset:
    """Sequences of `context_length` tokens over packed shards."""

    def __init__(
        self,
        shards: TokenShards,
        context_length: int,
        *,
        packing_enabled: bool = True,
        cross_document_attention: bool = False,
    ) -> None:
        self.shards = shards
        self.context_length = context_length
        self.packing_enabled = packing_enabled
        self.cross_document_attention = cross_document_attention
        if len(self) == 0:
            raise ValueError(
                f"the shards in {shards.folder} hold {shards.tokens} tokens, fewer than one sequence: "
                f"contextLength {context_length} needs {context_length + 1}"
            )

    def __len__(self) -> int:
        """Samples in one epoch."""
        if self.packing_enabled:
            return packing.window_count(self.shards.tokens, self.context_length)
        return self.shards.documents

    def get(self, sample_id: int) -> Sample:
        """Sample `sample_id` of 0 … len-1; a negative id is a filler without weight."""
        if sample_id < 0:
            return packing.filler_sample(self.context_length, self.shards.special.pad)
        if not self.packing_enabled:
            start, stop = self.shards.document_span(sample_id)
            tokens = self.shards.read(start, min(stop, start + self.context_length + 1))
            return packing.document_sample(tokens, self.context_length, self.shards.special.pad)
        start, stop = packing.window_span(sample_id, self.context_length)
        ends = self.shards.document_ends(start, stop) - start
        return packing.packed_sample(
            self.shards.read(start, stop), ends, cross_document_attention=self.cross_document_attention
        )


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one forward pass takes; a filler has no label that counts."""

    tokens: Int64s  # [micro-batch, S]
    labels: Int64s  # [micro-batch, S]
    documents: Int32s  # [micro-batch, S]


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One data rank's share of a step."""

    micro_batches: list[MicroBatch]  # equally many on every data rank
    sample_ids: Int64s  # [global batch], the same on every rank
    valid_tokens: int  # labels of this rank that count; the step's loss is divided by their global sum

    @property
    def sample_digest(self) -> str:
        """The step's sample digest, the same on every rank."""
        return order.sample_digest(self.sample_ids)


class BatchLoader:
    """`step(k)` for one data rank, with the next step prepared in the background."""

    def __init__(
        self,
        dataset: SequenceDataset,
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
        self._places = order.deal(global_batch_size, micro_batch_size, data_degree, data_rank)
        self._executor: ThreadPoolExecutor | None = None
        self._executor_pid = 0
        self._ahead: tuple[int, Future[StepBatch]] | None = None

    def step(self, step: int) -> StepBatch:
        """The batch of `step`, from 0; global samples [step·B, (step+1)·B)."""
        executor = self._thread()
        if self._ahead is not None and self._ahead[0] == step:
            batch = self._ahead[1].result()
        else:
            batch = self.build(step)
        self._ahead = step + 1, executor.submit(self.build, step + 1)
        return batch

    def build(self, step: int) -> StepBatch:
        """The batch of `step`, computed here and now."""
        ids = order.step_sample_ids(self.seed, step, self.global_batch_size, len(self.dataset))
        micro_batches = [self._micro_batch(ids, row) for row in self._places]
        valid = sum(int(np.count_nonzero(batch.labels != IGNORED)) for batch in micro_batches)
        return StepBatch(micro_batches, ids, valid)

    def close(self) -> None:
        """Ends the background thread."""
        if self._executor is not None and self._executor_pid == os.getpid():
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor, self._ahead = None, None

    def _micro_batch(self, ids: Int64s, places: Int64s) -> MicroBatch:
        samples = [
            self.dataset.get(int(ids[place]) if place != order.FILLER else order.FILLER) for place in places
        ]
        return MicroBatch(
            np.stack([sample.tokens for sample in samples]),
            np.stack([sample.labels for sample in samples]),
            np.stack([sample.documents for sample in samples]),
        )

    def _thread(self) -> ThreadPoolExecutor:
        # A thread does not survive a fork: a loader that was used before it starts a new one after.
        if self._executor is None or self._executor_pid != os.getpid():
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="footplate-data")
            self._executor_pid, self._ahead = os.getpid(), None
        return self._executor
