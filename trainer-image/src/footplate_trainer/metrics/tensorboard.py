"""Metric rows as TensorBoard scalars.

A run that was killed has written events beyond its last checkpoint. The format
has an answer: a session start that names a step, from which on the reader
forgets what came before. What precedes a checkpoint must be in the file by
then, so each one flushes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from footplate_contracts.reports import StepMetrics

_TAGS: Final = {
    "loss": "training/loss",
    "gradient_norm": "training/gradient_norm",
    "learning_rate": "training/learning_rate",
    "tokens": "training/tokens",
    "validation_loss": "validation/loss",
    "tokens_per_second": "speed/tokens_per_second",
    "mfu": "speed/mfu",
    "mfu_causal": "speed/mfu_causal",
    "memory_bytes": "memory/bytes",
    "step_seconds": "seconds/step",
    "data_seconds": "seconds/data",
    "compute_seconds": "seconds/compute",
    "communication_seconds": "seconds/communication",
    "optimizer_seconds": "seconds/optimizer",
    "checkpoint_seconds": "seconds/checkpoint",
    "validation_seconds": "seconds/validation",
}


class TensorBoardSink:
    """Event files in `folder`; a run that goes on from `resumed_step` replaces what lies beyond it."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        # Here, as it imports much that most runs never need.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=resumed_step + 1)

    def write(self, row: StepMetrics) -> None:
        """One scalar for each number of `row` that was measured."""
        for field, tag in _TAGS.items():
            value = getattr(row, field)
            if value is not None:
                self._writer.add_scalar(tag, value, row.step, row.time)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._writer.flush()

    def close(self) -> None:
        """Flush, and end the thread that writes."""
        self._writer.close()
