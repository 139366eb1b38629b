"""Where rank 0 writes metric rows itself, beside what it tells its agent."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from footplate_contracts.reports import StepMetrics
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.store import is_full
from footplate_trainer.errors import StorageError
from footplate_trainer.metrics.report import MetricsFile
from footplate_trainer.metrics.tensorboard import TensorBoardSink
from footplate_trainer.storage import local_path


class RowSink(Protocol):
    """Takes one row a step."""

    def write(self, row: StepMetrics) -> None:
        """Take a row."""

    def flush(self) -> None:
        """Make sure that a run that goes on from here need not write it again."""

    def close(self) -> None:
        """End."""


def open_sinks(config: RunConfig, file: Path | None, resumed_step: int) -> list[RowSink]:
    """The file of the command line and `telemetry.sinks`, cut back to `resumed_step`.

    Raises StorageError where one cannot be written.
    """
    asked = config.telemetry.sinks if config.telemetry else []
    try:
        sinks: list[RowSink] = [MetricsFile(file, resumed_step)] if file else []
        return sinks + [TensorBoardSink(local_path(sink.uri), resumed_step) for sink in asked]
    except OSError as error:
        raise StorageError(f"metrics cannot be written: {error}", full=is_full(error)) from error
