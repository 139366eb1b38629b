"""What happens around every step of a run: reports, metrics, checkpoints, commands."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from footplate_contracts.reports import Command, RankPhase, RankReport, StepMetrics
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Precision
from footplate_elastic.protocol.link import Link
from footplate_planning.config import model_shape
from footplate_planning.flops import peak_tflops
from footplate_trainer.checkpoint.mirror import MemoryCopies
from footplate_trainer.checkpoint.record import Describer
from footplate_trainer.checkpoint.saver import Saver
from footplate_trainer.data.loader import StepBatch
from footplate_trainer.data.spans import decoder_length
from footplate_trainer.loop import Flags, StepResult
from footplate_trainer.metrics.meters import TokenMeter, UtilisationMeter, second_fields
from footplate_trainer.metrics.report import progress_line
from footplate_trainer.metrics.stopwatch import Part, Stopwatch
from footplate_trainer.parallel import device
from footplate_trainer.parallel.world import World, seed_step
from footplate_trainer.stages.course import Course, newest_of, run_file
from footplate_trainer.stages.diagnostics import Diagnostics
from footplate_trainer.stages.sinks import RowSink
from footplate_trainer.stages.validation import Validator


class Progress:
    """Where this rank stands; the agent is told of each change, and a failure report asks."""

    def __init__(self, link: Link, world: World) -> None:
        self._link = link
        self._world = world
        self.step = 0  # the last finished one
        self.total_steps: int | None = None  # the last one of all, once that is known
        self.tokens = 0  # valid ones, of the whole world, since step 0

    def enter(self, phase: RankPhase, seconds: float | None = None) -> None:
        """Tell what this rank does now; `seconds` of the step that has just ended."""
        self._link.report(
            RankReport(
                rank=self._world.rank,
                local_rank=self._world.local_rank,
                step=self.step,
                phase=phase,
                step_seconds=seconds,
                total_steps=self.total_steps,
            )
        )


class RunMoments:
    """The loop's moments, for any stage."""

    def __init__(
        self,
        course: Course,
        link: Link,
        world: World,
        saver: Saver,
        memory: MemoryCopies | None,
        describer: Describer,
        progress: Progress,
        sinks: Sequence[RowSink],
        stopwatch: Stopwatch,
        validator: Validator | None,
    ) -> None:
        """`sinks` take one row a step; rank 0 has them."""
        self.suspended = False
        self.loss: float | None = None
        self._course = course
        self._link = link
        self._world = world
        self._saver = saver
        self._memory = memory
        self._describer = describer
        self._progress = progress
        self._sinks = sinks
        self._meter = TokenMeter(time.monotonic())
        self._utilisation = utilisation_meter(course.config, world)
        self._stopwatch = stopwatch
        self._validator = validator
        self._diagnostics = Diagnostics(
            course.config.checkpoint.uri, world, lambda: progress.enter(RankPhase.DIAGNOSIS)
        )
        link.listen(self._diagnostics.asked)

    def before_data(self, step: int) -> None:
        """Waiting for data is told apart from computing: only one of them may take long."""
        self._diagnostics.before_step(step)
        self._progress.enter(RankPhase.DATA)
        seed_step(self._course.config.training.seed, step, self._world.rank)

    def before_compute(self, step: int) -> Flags:
        """A command, new terms or a failed checkpoint become known to all ranks with this step."""
        self._progress.enter(RankPhase.COMPUTE)
        suspend = self._link.command() is Command.CHECKPOINT_AND_EXIT
        told = self._link.terms()
        new_terms = told is not None and told.newer_than(self._course.terms)
        return Flags(suspend=suspend, storage_failed=self._saver.failed, new_terms=new_terms)

    def after_step(self, result: StepResult, batch: StepBatch) -> bool:
        """Report, then save if it is time; False after the checkpoint that a command asked for."""
        per_second, seconds = self._meter.rate(result.valid_tokens, time.monotonic())
        self._progress.step = result.step
        self._progress.tokens += result.valid_tokens
        self._progress.enter(RankPhase.COMPUTE, seconds)
        self.loss = result.loss
        parts = self._stopwatch.take()
        self._diagnostics.after_step(result.step)
        if result.flags.new_terms:
            self._take_terms()
        validation = self._validate(result.step)
        if self._world.rank == 0:
            self._publish(result, per_second, seconds, batch, parts, validation)
        if result.flags.storage_failed:
            self._saver.finish()  # raises: every rank's thread was given the same verdict
        last = result.step == self._course.steps
        self.suspended = result.flags.suspend and not last
        if last or self.suspended or result.step % self._course.every_steps == 0:
            asynchronous = self._course.config.checkpoint.asynchronous
            self._save(wait=last or self.suspended or not asynchronous)
        if self._memory is not None and self._memory.due(result.step):
            self._remember(self._memory)
        if last:
            self._take_terms()  # more steps may have been asked for while the checkpoint was written
        return not self.suspended

    def close(self) -> None:
        """End what was opened here."""
        if self._memory is not None:
            self._memory.finish()
        for sink in self._sinks:
            sink.close()

    def _take_terms(self) -> None:
        """From the next step on train under the newest terms that any rank knows. Collective."""
        course, done = self._course, self._progress.step
        if not course.take(newest_of(course.newest(self._link.terms()), self._world), done):
            return
        self._progress.total_steps = course.steps
        self._describer = self._describer.until(course.steps)
        self._saver.change(course.config.checkpoint, run_file(course.config))
        if self._world.rank == 0:
            print(f"from step {done + 1} on: {course}", flush=True)

    def _save(self, *, wait: bool) -> None:
        self._stopwatch.lap(None)
        self._progress.enter(RankPhase.CHECKPOINT)
        for sink in self._sinks:
            sink.flush()
        self._saver.start(self._describer.at(self._progress.step, self._progress.tokens))
        if wait:
            self._saver.finish()
        self._stopwatch.lap(Part.CHECKPOINT)

    def _remember(self, memory: MemoryCopies) -> None:
        self._stopwatch.lap(None)
        self._progress.enter(RankPhase.CHECKPOINT)
        memory.copy(self._describer.at(self._progress.step, self._progress.tokens))
        self._stopwatch.lap(Part.CHECKPOINT)

    def _validate(self, step: int) -> float | None:
        if self._validator is None or not self._validator.due(step, self._course.steps):
            return None
        self._stopwatch.lap(None)
        self._progress.enter(RankPhase.VALIDATION)
        loss = self._validator.evaluate()
        self._stopwatch.lap(Part.VALIDATION)
        if self._world.rank == 0:
            print(f"step {step}/{self._course.steps}  validation loss {loss:.4f}", flush=True)
        return loss

    def _publish(
        self,
        result: StepResult,
        per_second: float,
        seconds: float,
        batch: StepBatch,
        parts: Mapping[Part, float],
        validation: float | None,
    ) -> None:
        row = StepMetrics(
            step=result.step,
            time=time.time(),
            loss=result.loss,
            gradient_norm=result.gradient_norm,
            learning_rate=result.learning_rate,
            tokens=self._progress.tokens,
            tokens_per_second=per_second,
            sample_digest=batch.sample_digest,
            step_seconds=seconds,
            memory_bytes=device.peak_memory(self._world.device),
            validation_loss=validation,
            **second_fields(parts),
            **self._utilisation.fields(seconds),
        )
        self._link.metrics(row)
        for sink in self._sinks:
            sink.write(row)
        steps = self._course.steps
        if result.step == steps or result.step % self._course.config.training.log_every_steps == 0:
            print(progress_line(row, steps), flush=True)


def utilisation_meter(config: RunConfig, world: World) -> UtilisationMeter:
    """The profile's peak wins over the table of devices, which knows bf16 only."""
    stated, precision = config.world.peak_tflops, config.training.precision
    if stated is not None:
        tflops: float | None = stated.bf16 if precision is Precision.BF16 else stated.fp32
    else:
        tflops = peak_tflops(device.name(world.device)) if precision is Precision.BF16 else None
    length = config.model.context_length
    places = config.training.global_batch_size * length
    return UtilisationMeter(model_shape(config), length, places, world.size, tflops, decoder_length(config))
