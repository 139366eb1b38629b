"""Writes a row per step with rank 0's measurements, for the run's history, for files and for the console."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from footplate_contracts.metrics import VALUE_NAMES, StepMetrics
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_contracts.v1alpha1.training import Precision
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import model_shape
from footplate_planning.flops import Convention, flops_per_token, peak_tflops, utilisation
from footplate_planning.shape import ModelShape
from footplate_planning.span_corruption import decoder_length
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint.store import is_volume_full
from footplate_trainer.errors import StorageError
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.metrics.metric_sinks import (
    MetricsFile,
    RowSink,
    SamplesFile,
    TensorBoardSink,
    progress_line,
    samples_path,
)
from footplate_trainer.metrics.stopwatch import StepPart
from footplate_trainer.parallel import device
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.storage import local_path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UtilisationMeter:
    """Model FLOPs utilisation in the two common conventions; `tflops` of one device, None if unknown."""

    shape: ModelShape
    length: int  # of a sequence, tokens
    step_tokens: int  # places in a global batch; padding is computed like the rest
    devices: int
    tflops: float | None
    decoder_length: int = 0  # tokens of the decoder's sequence behind an encoder
    beside: ModelShape | None = None  # of a model that a step computes the same rows with, and moves as well

    def fields(self, seconds: float, places: Mapping[int, int] | None = None) -> dict[str, float]:
        """Return `mfu` and `mfu_causal` of a step that took `seconds`; nothing where the peak is unknown.

        `places` counts the computed positions by the width of their rows; None or empty where all have
        `length`.
        """
        tflops = self.tflops
        if not tflops:
            return {}
        of_width = places or {self.length: self.step_tokens}
        shapes = [self.shape] if self.beside is None else [self.shape, self.beside]
        conventions = {"mfu": Convention.FULL, "mfu_causal": Convention.CAUSAL}
        return {
            field: sum(
                utilisation(
                    sum(flops_per_token(shape, width, convention, self.decoder_length) for shape in shapes),
                    count / seconds,
                    self.devices,
                    tflops,
                )
                for width, count in of_width.items()
            )
            for field, convention in conventions.items()
        }


ROLLOUT_TOKENS: Final = "rollout/tokens"  # a stage says how many were drawn in the rollout before a step


def _rollout_speed(step: TrainedStep) -> dict[str, float]:
    """Return tokens per second of the rollout before `step`, if there was one that reports its tokens."""
    seconds, tokens = step.parts.get(StepPart.ROLLOUT, 0.0), step.columns.get(ROLLOUT_TOKENS)
    return {} if not seconds or tokens is None else {"rollout/tokens_per_second": float(tokens) / seconds}


@dataclass(frozen=True)
class MetricRows(Callback):
    """Callback that writes a step's results, and the columns that the callbacks before it measured."""

    sinks: Sequence[RowSink]  # on rank 0; others write none
    reporter: Reporter
    world: DistributedContext
    utilisation: UtilisationMeter
    names: set[str] = field(default_factory=set)  # of further numbers, in this generation
    draws: bool = False  # the tokens of a step are those that its rollout drew, and no others

    def after_step(self, step: TrainedStep) -> None:
        """Write the row; ValueError, on every rank, where a run has too many names of further numbers."""
        values = {**step.columns.values_by_name(), **_rollout_speed(step)}
        self._count(values)
        if not self.sinks:
            return
        result = step.result
        seconds = step.seconds if self.draws else step.training_seconds or step.seconds
        measured = {
            "memory_bytes": device.peak_memory(self.world.device),
            **{part.column: seconds for part, seconds in step.parts.items()},
            **self.utilisation.fields(seconds, step.batch.places),
            **step.columns.fields(),
        }
        row = StepMetrics.of_columns(
            step=result.step,
            time=time.time(),
            loss=result.loss,
            gradient_norm=result.gradient_norm,
            learning_rate=result.learning_rate,
            tokens=self.reporter.tokens,
            tokens_per_second=result.valid_tokens / seconds,
            sample_digest=step.batch.sample_digest,
            step_seconds=step.seconds,
            values=values or None,
            **measured,
        )
        for sink in self.sinks:
            sink.write(row, step.samples)

    def _count(self, names: Iterable[str]) -> None:
        self.names.update(names)
        if len(self.names) > VALUE_NAMES:
            raise ValueError(
                f"step.columns: a run can have at most {VALUE_NAMES} columns of its own, and "
                f"{sorted(names)[-1]!r} is one more; use the same names at every step"
            )

    def flush(self) -> None:
        """Flush the sinks, so that a run that resumes from here need not write these rows again."""
        for sink in self.sinks:
            sink.flush()

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def open_metric_rows(
    config: RunConfig,
    agent: AgentClient,
    limits: RunLimits,
    reporter: Reporter,
    world: DistributedContext,
    file: Path | None,
    beside: RunConfig | None = None,
) -> MetricRows:
    """Open the sinks of a run that resumes from `reporter.step`: those that it configures, and `file`.

    `beside` has the config of the second model that each step trains, if there is one. Raises StorageError
    where a sink cannot be written.
    """
    sinks = open_sinks(config, agent, limits, file, reporter.step) if world.rank == 0 else []
    return MetricRows(sinks, reporter, world, utilisation_meter(config, world, beside))


def utilisation_meter(
    config: RunConfig, world: DistributedContext, beside: RunConfig | None = None
) -> UtilisationMeter:
    """Build the meter; the profile's peak takes precedence over the table of devices, which has bf16 only."""
    stated, precision = config.world.peak_tflops, config.training.precision
    if stated is not None:
        tflops: float | None = stated.bf16 if precision is Precision.BF16 else stated.fp32
    else:
        tflops = peak_tflops(device.device_name(world.device)) if precision is Precision.BF16 else None
    length = config.model.context_length
    step_tokens = config.training.global_batch_size * length
    moved = None if beside is None else model_shape(beside)
    return UtilisationMeter(
        model_shape(config), length, step_tokens, world.size, tflops, decoder_length(config), moved
    )


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
        raise StorageError(f"cannot write metrics: {error}", full=is_volume_full(error)) from error
    return [AgentSink(agent), *files, ConsoleSink(limits, config.training.log_every_steps)]
