"""Metric rows as TensorBoard scalars.

A run that was killed has written events beyond its last checkpoint. The format
has an answer: a session start that names a step, from which on the reader
forgets what came before. What precedes a checkpoint must be in the file by
then, so each one flushes.
"""

from __future__ import annotations

from pathlib import Path

from footplate_contracts.metrics import COLUMNS, StepMetrics
from footplate_trainer.metrics.report import RowSink


class TensorBoardSink(RowSink):
    """Event files in `folder`; a run that goes on from `resumed_step` replaces what lies beyond it."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        # Here, as it imports much that most runs never need.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=resumed_step + 1)

    def write(self, row: StepMetrics) -> None:
        """One scalar for each number of `row` that was measured."""
        for column in COLUMNS:
            value = getattr(row, column.name)
            if column.shown is not None and value is not None:
                self._writer.add_scalar(column.shown.tag, value, row.step, row.time)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._writer.flush()

    def close(self) -> None:
        """Flush, and end the thread that writes."""
        self._writer.close()
