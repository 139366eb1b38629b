"""Saves the state: durably every so many steps and at each end, and into memory more often.

The list has these last: the row of a step stands in its files before the
checkpoint that a run may go on from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from footplate_contracts.reports import RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.durable import found
from footplate_trainer.checkpoint.durable.saver import Saver
from footplate_trainer.checkpoint.layout import Retention
from footplate_trainer.checkpoint.memory.mirror import MemoryCopies
from footplate_trainer.checkpoint.record import HeldOutScores, TrainingState
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Flags
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.model.score import DEVIATION, MEAN


@dataclass(frozen=True)
class DurableCheckpoints(Callback):
    """Every `checkpoint.everySteps`, and at the last step or a suspension, where training waits for it.

    One that fails is tried again while training goes on.
    """

    saver: Saver
    state: Callable[[], TrainingState]  # of the step just finished
    limits: RunLimits
    reporter: Reporter
    stopwatch: Stopwatch
    before_save: Callable[[], None]  # called when that step is about to be saved

    def before_compute(self, step: int) -> Flags:
        """See Callback."""
        return Flags(storage_failed=self.saver.failed)

    def after_step(self, step: TrainedStep) -> None:
        """Raises StorageError or StaleGeneration, on every rank, when a checkpoint came to nothing."""
        flags, limits = step.result.flags, self.limits
        if flags.storage_failed:
            self.saver.finish()  # raises: every rank's thread was given the same verdict
        ends = flags.suspend or step.number == limits.steps
        if ends or step.number % limits.every_steps == 0:
            self.save(ends=ends, told=step.columns)

    def save(self, *, ends: bool, told: Mapping[str, Any] | None = None) -> None:
        """Begin to save the state of now; where training `ends`, wait until it is durable. Collective.

        `told` is what validation says of it, if it was asked.
        """
        config, told = self.limits.config, told or {}
        loss = told.get("validation_loss")
        with self.stopwatch.time(StepPart.CHECKPOINT):
            self.reporter.enter(RankPhase.CHECKPOINT)
            self.before_save()
            self.saver.change(config.checkpoint, self.limits.kept_steps, run_file(config))
            state = self.state().model_copy(update={"scores": _scores_in(told)})
            self.saver.start(state, None if loss is None else float(loss))
            if ends:
                self.saver.finish()
            elif not config.checkpoint.asynchronous:
                self.saver.finish_try()

    def tell_found(self, step: int) -> None:
        """Tell the run which checkpoint it began with, where `step` is its last one, and so none follows."""
        saver, settings = self.saver, self.limits.config.checkpoint
        if step < self.limits.steps or saver.world.rank != 0:
            return
        retention = Retention(settings.keep_last, settings.keep_every_steps, self.limits.kept_steps)
        record = found.record_of(saver.store, step, retention, saver.generation)
        if record is not None:
            saver.agent.checkpoint(record)


def _scores_in(columns: Mapping[str, Any]) -> HeldOutScores | None:
    """Mean and deviation of the scores that validation told, if it told them."""
    mean, deviation = (columns.get(f"validation/{name}") for name in (MEAN, DEVIATION))
    if mean is None or deviation is None:
        return None
    return HeldOutScores(mean=float(mean), deviation=float(deviation))


@dataclass(frozen=True)
class FailedCheckpoints(Callback):
    """Says in the rows how many checkpoints came to nothing, as long as there are any."""

    saver: Saver

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        if self.saver.left_out:
            step.columns["checkpoints_left_out"] = self.saver.left_out


@dataclass(frozen=True)
class MemoryCheckpoints(Callback):
    """As often as `checkpoint.memory` asks for."""

    copies: MemoryCopies
    state: Callable[[], TrainingState]  # of the step just finished
    reporter: Reporter
    stopwatch: Stopwatch

    def after_step(self, step: TrainedStep) -> None:
        """See Callback."""
        if self.copies.due(step.number):
            with self.stopwatch.time(StepPart.CHECKPOINT):
                self.reporter.enter(RankPhase.CHECKPOINT)
                self.copies.copy(self.state())

    def close(self) -> None:
        """See Callback."""
        self.copies.finish()


def run_file(config: RunConfig) -> dict[str, bytes]:
    """The file of a checkpoint that says what it is one of, by name."""
    return {layout.RUN_FILE: config.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode()}
