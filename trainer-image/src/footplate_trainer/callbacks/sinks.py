"""Where rank 0 writes metric rows: to its agent, into files, and a line now and then for a person."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import ShownSample
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.checkpoint.store import is_full
from footplate_trainer.errors import StorageError
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.metrics.report import (
    MetricsFile,
    RowSink,
    SamplesFile,
    TensorBoardSink,
    beside,
    progress_line,
)
from footplate_trainer.storage import local_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentSink(RowSink):
    """The run's history, by way of the agent, which keeps what it has been handed."""

    agent: AgentClient

    def write(self, row: StepMetrics, samples: Sequence[ShownSample] = ()) -> None:
        """Hand it over, and what its step shows."""
        self.agent.metrics(row, samples)


@dataclass(frozen=True)
class ConsoleSink(RowSink):
    """A line every `every` steps, and one for the last."""

    limits: RunLimits
    every: int

    def write(self, row: StepMetrics, samples: Sequence[ShownSample] = ()) -> None:
        """Print it, if it is time."""
        if row.step == self.limits.steps or row.step % self.every == 0:
            _log.info(progress_line(row, self.limits.steps))


def open_sinks(
    config: RunConfig, agent: AgentClient, limits: RunLimits, file: Path | None, resumed_step: int
) -> list[RowSink]:
    """Agent and console, and the files of the command line and `telemetry.sinks`, cut back to `resumed_step`.

    Raises StorageError where one cannot be written.
    """
    asked = config.telemetry.sinks if config.telemetry else []
    try:
        files: list[RowSink] = (
            [MetricsFile(file, resumed_step), SamplesFile(beside(file), resumed_step)] if file else []
        )
        files += [TensorBoardSink(local_path(sink.uri), resumed_step) for sink in asked]
    except OSError as error:
        raise StorageError(f"metrics cannot be written: {error}", full=is_full(error)) from error
    return [AgentSink(agent), *files, ConsoleSink(limits, config.training.log_every_steps)]
