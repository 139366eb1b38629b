"""Next-token pre-training: the whole program, top to bottom.

Build, load what the last checkpoint knows, train, save. Everything that a rank
does once is in `_train`; what it does around each step is in `_Moments`; and
`main` is the one place where an exception becomes an exit code.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import Command, GenerationId, RankPhase, RankReport, StepMetrics
from footplate_contracts.runconfig import RunConfig
from footplate_trainer import failure
from footplate_trainer.checkpoint import layout, resume, state
from footplate_trainer.checkpoint.saver import Saver
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.config import decoder_shape, local_path, total_steps
from footplate_trainer.data.errors import DataError
from footplate_trainer.data.layout import TOKENIZER_FILE
from footplate_trainer.data.loader import BatchLoader, SequenceDataset, StepBatch
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.errors import UserMistake
from footplate_trainer.link import Link
from footplate_trainer.loop import Flags, Stepper, StepResult, train
from footplate_trainer.metrics.meters import TokenMeter
from footplate_trainer.metrics.report import MetricsFile, progress_line
from footplate_trainer.optim.adamw import ShardedAdamW
from footplate_trainer.optim.schedule import learning_rate
from footplate_trainer.parallel.apply import build_model
from footplate_trainer.parallel.world import World, open_world, read_environment, use_determinism


@dataclass(frozen=True)
class Options:
    """What is asked for on the command line and not in the run."""

    metrics: Path | None = None


def main(config: RunConfig, link: Link, options: Options) -> ExitCode:
    """Train `config` as the rank that the environment names; every foreseen error ends in its exit code."""
    place = read_environment(os.environ)
    where = _Where()
    try:
        with open_world(place, config.world.backend) as world:
            return _train(config, link, options, world, where)
    except Exception as error:  # noqa: BLE001 - the process edge: told, classified, never raised on
        report = failure.describe(error, rank=place.rank, step=where.step, now=time.time())
        failure.tell(error, report, os.environ)
        return failure.exit_code(error)


@dataclass
class _Where:
    """The last finished step, for whoever has to tell of a failure."""

    step: int | None = None


def _train(config: RunConfig, link: Link, options: Options, world: World, where: _Where) -> ExitCode:
    use_determinism(config.training.deterministic)
    torch.manual_seed(config.training.seed)
    say = partial(print, flush=True) if world.rank == 0 else _silent
    report = partial(_report, link, world)
    report(RankPhase.LOADING, 0)

    store = CheckpointStore(local_path(config.checkpoint.uri))
    store.create()
    laid_out = build_model(config, world)
    model = laid_out.model
    optimizer = ShardedAdamW(model, config.training.optimizer)
    found = resume.find(store, world, report=lambda text: print(f"warning: {text}", file=sys.stderr))
    start, tokens = (found.state.step, found.state.tokens) if found else (0, 0)
    if found:
        resume.check_same_run(config, found.folder)
        resume.load(found, state.tensors(model, optimizer.moments()), world)
        optimizer.set_updates_done(start)
    where.step = start
    report(RankPhase.LOADING, start)

    loader, shards = open_loader(config, world, verify=found is None)
    saver = Saver(
        store,
        world,
        state.HostCopy(model, optimizer.moments(), laid_out.host_mesh),
        generation=GenerationId.parse(os.environ.get(Env.GENERATION, "0.0")),
        settings=config.checkpoint,
        sidecars=_sidecars(config, shards) if world.rank == 0 else {},
        link=link,
        clock=time.time,
    )
    steps = total_steps(config)
    say(_greeting(config, world, start))
    moments = _Moments(config, link, world, saver, where, tokens, options.metrics)
    stepper = Stepper(
        model, optimizer, world, config.parallelism.sharding, config.training.gradient_clip_norm
    )
    rate = partial(
        learning_rate,
        peak=config.training.optimizer.learning_rate,
        steps=steps,
        warmup=config.training.schedule.warmup_steps,
        shape=config.training.schedule.name,
        minimum_ratio=config.training.schedule.minimum_ratio,
    )
    train(stepper, loader, rate, moments, iter(range(start + 1, steps + 1)))
    loader.close()
    moments.close()
    report(RankPhase.FINISHED, where.step)
    if moments.suspended:
        say(f"suspended at step {where.step} of {steps}, as asked; checkpoint in {store.folder}")
        return ExitCode.SUSPENDED
    say(f"finished at step {where.step}; {moments.last_words}checkpoint in {store.folder}")
    return ExitCode.SUCCESS


class _Moments:
    """What this stage does around a step: reports, metrics, checkpoints."""

    def __init__(
        self,
        config: RunConfig,
        link: Link,
        world: World,
        saver: Saver,
        where: _Where,
        tokens: int,
        metrics: Path | None,
    ) -> None:
        self.suspended = False
        self.last_words = ""
        self._config = config
        self._link = link
        self._world = world
        self._saver = saver
        self._where = where
        self._tokens = tokens
        self._steps = total_steps(config)
        self._report = partial(_report, link, world)
        self._file = MetricsFile(metrics, where.step or 0) if metrics and world.rank == 0 else None
        self._meter = TokenMeter(time.monotonic())

    def before_data(self, step: int) -> None:
        """The hang detector allows waiting for data more than it allows computing."""
        self._report(RankPhase.DATA, step - 1)

    def before_compute(self, step: int) -> Flags:
        """A command or a failed checkpoint becomes known to all ranks with this step."""
        self._report(RankPhase.COMPUTE, step - 1)
        suspend = self._link.command() is Command.CHECKPOINT_AND_EXIT
        return Flags(suspend=suspend, storage_failed=self._saver.failed)

    def after_step(self, result: StepResult, batch: StepBatch) -> bool:
        """Report, then save if it is time; False after the checkpoint that a command asked for."""
        self._where.step = result.step
        self._tokens += result.valid_tokens
        per_second, seconds = self._meter.rate(result.valid_tokens, time.monotonic())
        self._report(RankPhase.COMPUTE, result.step, seconds)
        if self._world.rank == 0:
            self._publish(result, per_second, batch)
        if result.flags.storage_failed:
            self._saver.finish()  # raises: every rank's thread was given the same verdict
        self.suspended = result.flags.suspend
        last = self.suspended or result.step == self._steps
        if last or result.step % self._config.checkpoint.every_steps == 0:
            self._save(result.step, wait=last or not self._config.checkpoint.asynchronous)
        return not self.suspended

    def close(self) -> None:
        """End what was opened here."""
        if self._file:
            self._file.close()

    def _save(self, step: int, *, wait: bool) -> None:
        self._report(RankPhase.CHECKPOINT, step)
        described = state.describe(
            self._config, step, self._tokens, self._world.size, self._world.device.type
        )
        self._saver.start(described)
        if wait:
            self._saver.finish()

    def _publish(self, result: StepResult, per_second: float, batch: StepBatch) -> None:
        row = StepMetrics(
            step=result.step,
            time=time.time(),
            loss=result.loss,
            gradient_norm=result.gradient_norm,
            learning_rate=result.learning_rate,
            tokens=self._tokens,
            tokens_per_second=per_second,
            sample_digest=batch.sample_digest,
        )
        self._link.metrics(row)
        if self._file:
            self._file.write(row)
        if result.step == self._steps or result.step % self._config.training.log_every_steps == 0:
            print(progress_line(row, self._steps), flush=True)
        self.last_words = f"loss {row.loss:.4f}; "


def _report(link: Link, world: World, phase: RankPhase, step: int, seconds: float | None = None) -> None:
    link.report(
        RankReport(rank=world.rank, local_rank=world.local_rank, step=step, phase=phase, step_seconds=seconds)
    )


def open_loader(config: RunConfig, world: World, *, verify: bool) -> tuple[BatchLoader, TokenShards]:
    """This rank's batches, and the shards they come from; collective. See _open_shards for `verify`."""
    shards = _open_shards(config, world, verify=verify)
    loader = BatchLoader(
        _dataset(config, shards),
        seed=config.data.seed,
        global_batch_size=config.training.global_batch_size,
        micro_batch_size=config.training.micro_batch_size,
        data_rank=world.rank,
        data_degree=world.size,
    )
    return loader, shards


def _open_shards(config: RunConfig, world: World, *, verify: bool) -> TokenShards:
    """The shards, their checksums verified by all ranks together; collective.

    Only a run's first start reads everything: a restart must not wait for it.
    """
    assert config.data.uri is not None, "the CRD's rule asks for data.uri"
    error: DataError | None = None
    try:
        shards = TokenShards.open(config.data.uri, verify=(world.rank, world.size) if verify else None)
    except DataError as found:
        error = found
    errors: list[DataError | None] = [None] * world.size
    dist.all_gather_object(errors, error, group=world.background)
    for one in errors:
        if one is not None:
            raise one
    if shards.vocabulary_size > config.model.vocabulary_size:
        raise UserMistake(
            f"model.vocabularySize {config.model.vocabulary_size} does not cover the shards in "
            f"{config.data.uri}, whose vocabulary has {shards.vocabulary_size}; give at least that"
        )
    return shards


def _dataset(config: RunConfig, shards: TokenShards) -> SequenceDataset:
    try:
        return SequenceDataset(
            shards,
            config.model.context_length,
            packing_enabled=config.data.packing.enabled,
            cross_document_attention=config.data.packing.cross_document_attention,
        )
    except ValueError as error:
        raise UserMistake(str(error)) from error


def _sidecars(config: RunConfig, shards: TokenShards) -> dict[str, bytes]:
    return {
        layout.RUN_FILE: config.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode(),
        layout.TOKENIZER_FILE: (shards.folder / TOKENIZER_FILE).read_bytes(),
    }


def _greeting(config: RunConfig, world: World, start: int) -> str:
    shape = decoder_shape(config)
    begin = f"from step {start}" if start else "from the start"
    return (
        f"run {config.run.name}: {shape.parameters:,} parameters, {world.size} "
        f"{'rank' if world.size == 1 else 'ranks'} on {world.device.type}, "
        f"{total_steps(config)} steps, {begin}"
    )


def _silent(_: str) -> None:
    """All ranks but one."""
