"""Callbacks that save the state: durably every few steps and at each end, and into memory more often.

They are last in the list: the row of a step is in its files before the checkpoint that a run may resume from.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from footplate_contracts.reports import CheckpointRecord, GenerationId, RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.durable.saver import Saver
from footplate_trainer.checkpoint.layout import CheckpointRetention, committed_directory
from footplate_trainer.checkpoint.memory.memory_copies import MemoryCopies
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.checkpoint.training_state import HeldOutScores, TrainingState
from footplate_trainer.errors import CheckpointError, StorageError
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.metrics.stopwatch import StepPart, Stopwatch
from footplate_trainer.model.sequence_scores import DEVIATION, MEAN

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DurableCheckpoints(Callback):
    """Callback that saves durably every `checkpoint.everySteps`, and at the last step or a suspension.

    Training waits for the save of a last step or a suspension. A save that fails is retried while training
    continues.
    """

    saver: Saver
    state: Callable[[], TrainingState]  # of the step just finished
    limits: RunLimits
    reporter: Reporter
    stopwatch: Stopwatch
    before_save: Callable[[], None]  # called when that step is about to be saved

    def before_compute(self, step: int) -> StepFlags:
        return StepFlags(storage_failed=self.saver.has_failed)

    def after_step(self, step: TrainedStep) -> None:
        """Save the state if it is due.

        StorageError or StaleGeneration, on every rank, when a checkpoint failed.
        """
        flags, limits = step.result.flags, self.limits
        if flags.storage_failed:
            self.saver.finish()  # raises: every rank's thread was given the same verdict
        ends = flags.suspend or step.number == limits.steps
        if ends or step.number % limits.every_steps == 0:
            self.save(ends=ends, told=step.columns)

    def save(self, *, ends: bool, told: Mapping[str, Any] | None = None) -> None:
        """Begin to save the current state; where training `ends`, wait until it is durable. Collective.

        `told` has the validation results of this state, if there are any.
        """
        config, told = self.limits.config, told or {}
        loss = told.get("validation_loss")
        with self.stopwatch.time(StepPart.CHECKPOINT):
            self.reporter.report_phase(RankPhase.CHECKPOINT)
            self.before_save()
            self.saver.update_settings(config.checkpoint, self.limits.kept_steps, run_config_file(config))
            state = self.state().model_copy(update={"scores": _scores_in(told)})
            self.saver.start(state, None if loss is None else float(loss))
            if ends:
                self.saver.finish()
            elif not config.checkpoint.asynchronous:
                self.saver.finish_attempt()

    def report_resumed_checkpoint(self, step: int) -> None:
        """Report the checkpoint that the run started from, if `step` is its last one and no other follows."""
        saver, settings = self.saver, self.limits.config.checkpoint
        if step < self.limits.steps or saver.world.rank != 0:
            return
        retention = CheckpointRetention(settings.keep_last, settings.keep_every_steps, self.limits.kept_steps)
        record = build_resumed_record(saver.store, step, retention, saver.generation)
        if record is not None:
            saver.agent.checkpoint(record)


def _scores_in(columns: Mapping[str, Any]) -> HeldOutScores | None:
    """Return mean and deviation of the validation scores, if validation measured them."""
    mean, deviation = (columns.get(f"validation/{name}") for name in (MEAN, DEVIATION))
    if mean is None or deviation is None:
        return None
    return HeldOutScores(mean=float(mean), deviation=float(deviation))


@dataclass(frozen=True)
class SkippedCheckpoints(Callback):
    """Callback that adds the number of skipped checkpoints to the rows, as long as there are any."""

    saver: Saver

    def after_step(self, step: TrainedStep) -> None:
        if self.saver.skipped_count:
            step.columns["checkpoints_left_out"] = self.saver.skipped_count


@dataclass(frozen=True)
class MemoryCheckpoints(Callback):
    """Callback that copies the state into memory at the interval of `checkpoint.memory`."""

    copies: MemoryCopies
    state: Callable[[], TrainingState]  # of the step just finished
    reporter: Reporter
    stopwatch: Stopwatch

    def after_step(self, step: TrainedStep) -> None:
        if self.copies.is_due(step.number):
            with self.stopwatch.time(StepPart.CHECKPOINT):
                self.reporter.report_phase(RankPhase.CHECKPOINT)
                self.copies.copy(self.state())

    def close(self) -> None:
        self.copies.finish()


def run_config_file(config: RunConfig) -> dict[str, bytes]:
    """Return run.json of a checkpoint, which contains the RunConfig, by name."""
    return {layout.RUN_FILE: config.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode()}


def build_resumed_record(
    store: CheckpointStore, step: int, retention: CheckpointRetention, finder: GenerationId
) -> CheckpointRecord | None:
    """Return the record of the checkpoint of `step`, from which generation `finder` has started.

    A run that starts at its last step writes none, and runs that wait for it need that record. None where
    there is none, and where storage does not respond: training does not depend on it. An earlier run of this
    name may have had later generations than this one; the record then names `finder`, because no receiver
    accepts from a coordinator a record of a later epoch than the coordinator's own.
    """
    try:
        with storage_errors(f"checkpoint folder {store.uri}"):
            markers = store.markers()
        marker = markers.get(step)
        directory = committed_directory(marker)
        if marker is None or directory is None:
            return None
        files = StepCheckpoint(store, directory.name).manifest().files
    except (StorageError, CheckpointError) as error:
        _log.warning("cannot report the checkpoint found at step %d: %s", step, error)
        return None
    written = directory.generation
    return CheckpointRecord(
        step=step,
        uri=store.directory_uri(directory.name),
        time=marker.time,
        bytes=sum(file.bytes for file in files),
        generation=finder if written.is_newer_than(finder) else written,
        digest=marker.digest,
        validation_loss=marker.validation_loss,
        standing=layout.list_standing([known for known in markers.values() if known], retention) or None,
    )
