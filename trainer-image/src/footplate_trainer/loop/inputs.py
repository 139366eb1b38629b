"""A micro-batch as this rank computes it: on its device, and only with this rank's part of each sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate_trainer.data.loader import MicroBatch
from footplate_trainer.model.dropout import DropoutSeed
from footplate_trainer.model.head_chunks import IGNORED
from footplate_trainer.model.inputs import Inputs, Targets
from footplate_trainer.parallel.context_parallel import shard_sequence
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.stage_module import MicroBatchInputs


@dataclass(frozen=True)
class StepInputs:
    """Converter of a rank's micro-batches to model inputs; the run's `seed` determines the dropout masks."""

    grid: Grid
    device: torch.device
    seed: int

    def __call__(self, micro: MicroBatch, step: int) -> MicroBatchInputs:
        """Convert `micro` for this rank in `step`, which determines the dropout masks."""
        documents = self._to_device(micro.documents)
        inputs = Inputs(
            self._to_device(micro.tokens),
            None if _is_one_document(micro.documents) else documents,
            decoder_tokens=self._padded(micro.decoder_tokens, 0),
            decoder_documents=self._padded(micro.decoder_documents, -1),
            dropout_seed=DropoutSeed(self.seed, step, self._to_device(micro.places)),
        )
        labels = self._padded(micro.labels, IGNORED)
        assert labels is not None
        if self.grid.context_group is not None:
            inputs, labels = shard_sequence(inputs, labels, self.grid.context_group)
        return MicroBatchInputs(inputs, self._targets(micro, labels, documents, inputs.positions))

    def _targets(
        self, micro: MicroBatch, labels: Tensor, documents: Tensor, positions: Tensor | None
    ) -> Targets:
        return Targets(
            labels,
            documents,
            self._to_device(micro.values),
            self._to_device(micro.real),
            positions,
            None if micro.sequences is None else self._to_device(micro.sequences),
            {name: self._to_device(values) for name, values in micro.token_values.items()},
            {name: self._to_device(values) for name, values in micro.sequence_values.items()},
        )

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _padded(self, rows: NDArray[Any] | None, filling: int) -> Tensor | None:
        """Pad rows to equal shards for the tensor ranks, which only a decoder's sequences need."""
        if rows is None:
            return None
        short = -rows.shape[1] % self.grid.topology.tensor
        return self._to_device(np.pad(rows, ((0, 0), (0, short)), constant_values=filling) if short else rows)


def _is_one_document(documents: NDArray[Any]) -> bool:
    return bool((documents == documents[:, :1]).all())
