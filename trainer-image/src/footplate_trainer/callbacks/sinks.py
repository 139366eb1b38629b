"""Sinks to which rank 0 writes metric rows: its agent, files, and the console."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.checkpoint.store import is_volume_full
from footplate_trainer.errors import StorageError
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.metrics.metric_sinks import (
    MetricsFile,
    RowSink,
    SamplesFile,
    TensorBoardSink,
    progress_line,
    samples_path,
)
from footplate_trainer.storage import local_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentSink(RowSink):
    """Sink of the run's history; the agent stores the rows that it receives."""

    agent: AgentClient

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Send the row and the step's samples to the agent."""
        self.agent.metrics(row, samples)


@dataclass(frozen=True)
class ConsoleSink(RowSink):
    """Sink that logs a line every `every` steps, and one for the last step."""

    limits: RunLimits
    every: int

    def write(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        """Log the row if it is due."""
        if row.step == self.limits.steps or row.step % self.every == 0:
            _log.info(progress_line(row, self.limits.steps))


def open_sinks(
    config: RunConfig, agent: AgentClient, limits: RunLimits, file: Path | None, resumed_step: int
) -> list[RowSink]:
    """Open agent, console, and the files of command line and `telemetry.sinks`, truncated to `resumed_step`.

    Raises StorageError where a file cannot be written.
    """
    asked = config.telemetry.sinks if config.telemetry else []
    try:
        files: list[RowSink] = (
            [MetricsFile(file, resumed_step), SamplesFile(samples_path(file), resumed_step)] if file else []
        )
        files += [TensorBoardSink(local_path(sink.uri), resumed_step) for sink in asked]
    except OSError as error:
        raise StorageError(f"metrics cannot be written: {error}", full=is_volume_full(error)) from error
    return [AgentSink(agent), *files, ConsoleSink(limits, config.training.log_every_steps)]
