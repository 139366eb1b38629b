"""The program of stages that train on a fixed data set, top to bottom.

Build, load the last checkpoint's state, open the data, train, save. Stages
differ in the data that they read and in the loss that they minimise.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import GenerationId, RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import STAGES
from footplate_contracts.v1alpha1.model import Architecture
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import model_shape
from footplate_trainer.callbacks.checkpoints import (
    DurableCheckpoints,
    MemoryCheckpoints,
    SkippedCheckpoints,
    run_config_file,
)
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.limits import LeaseCallback, LimitsFollower, SuspensionCallback
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint import layout, state_tensors
from footplate_trainer.checkpoint.durable.saver import Saver
from footplate_trainer.checkpoint.memory.memory_copies import MemoryCopies
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.training_state import RolloutPosition, StateBuilder, TrainingState
from footplate_trainer.data.check import check_provenance
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.saved_processors import SavedProcessors
from footplate_trainer.loop.callbacks import Callbacks
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper, StepResult
from footplate_trainer.loop.training_loop import train
from footplate_trainer.optim.optimizer import ShardedOptimizer, build_optimizer
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.parallel_model import ParallelModel, build_model
from footplate_trainer.parallel.world import DistributedContext, read_environment, use_determinism
from footplate_trainer.stages.inputs import open_loader, open_shards, open_validation
from footplate_trainer.stages.losses import objective_of
from footplate_trainer.stages.process import Program, run_stage
from footplate_trainer.stages.processor_lookup import find_saved_processors
from footplate_trainer.stages.reference import StageReference, check_reference
from footplate_trainer.stages.start import (
    BuildBeside,
    StartPosition,
    TrainedValueModel,
    load_newest_state,
    open_memory,
    open_store,
    state_writer,
)

_log = logging.getLogger(__name__)


def main(config: RunConfig, agent: AgentClient, metrics: Path | None = None) -> ExitCode:
    """Train `config` as the rank that the environment names; every error ends in its exit code.

    `metrics` is a file for rows beside those that the run configures.
    """

    def stage(config: RunConfig) -> Program:
        require_decoder(config)
        check_provenance(config)
        check_reference(config, read_environment(os.environ).world_size)
        return partial(_learn, config, objective_of(config), agent, metrics)

    return run_stage(config, agent, stage)


def require_decoder(config: RunConfig) -> None:
    """Raise UserMistake if a folder brought a model that the stage cannot train; the spec rejects others."""
    if STAGES[config.stage].decoders_only and config.model.architecture is not Architecture.DECODER:
        raise UserMistake(
            f"stage {config.stage} trains decoders, but initFrom is an {config.model.architecture}; use "
            "another folder"
        )


def _learn(
    config: RunConfig,
    objective: Objective,
    agent: AgentClient,
    metrics: Path | None,
    world: DistributedContext,
    reporter: Reporter,
) -> ExitCode:
    begun = build_training_setup(config, agent, world, reporter)
    config, model, optimizer, start = begun.config, begun.model, begun.optimizer, begun.start

    shards = open_shards(config, world, verify=start.key is None)
    reporter.data = shards.digest
    batches = open_loader(config, shards, model.grid)
    host = state_tensors.HostCopy(model.module, optimizer.moments(), model.host_mesh)
    processors = find_saved_processors(config, begun.store, shards, world)
    saver = open_saver(begun, world, host, shards.tokenizer, processors, agent)
    reference = StageReference(config, model, start, shards, world)
    objective = reference.objective(objective)
    clip_norm, seed = config.training.gradient_clip_norm, config.training.seed
    stepper = Stepper(model, optimizer, world, clip_norm, objective, seed)
    limits, copies = begun.limits, begun.copies
    validation = open_validation(
        config, objective, world, model.grid, stepper, limits, reporter, verify=start.key is None
    )
    datasets = [batches.dataset, *([validation.loader.dataset] if validation is not None else [])]
    reference.precompute(datasets, begun.store, stepper, reporter, begun.generation)
    rows = open_metric_rows(config, agent, limits, reporter, world, metrics)
    writer = state_writer(config, start, shards, world, reference.key)
    state_now = partial(build_training_state, writer, limits, reporter, agent)
    durable = DurableCheckpoints(saver, state_now, limits, reporter, stepper.stopwatch, rows.flush)
    callbacks = Callbacks(
        reporter,
        LeaseCallback(agent),
        SuspensionCallback(agent),
        Diagnostics(config.checkpoint.uri, agent, world, reporter),
        LimitsFollower(limits, agent, world, start.step),
        validation,
        SkippedCheckpoints(saver),
        rows,
        durable,
        MemoryCheckpoints(copies, state_now, reporter, stepper.stopwatch) if copies else None,
    )
    log_on_rank_0(world, start_message(limits, world, start.step))
    log_on_rank_0(world, str(batches.dataset))
    last = train(stepper, batches, limits, callbacks, start.step)
    if last is None and not start.durable:
        # The run was shortened to a step that only the nodes' memory holds.
        durable.save(ends=True, told=None if validation is None else validation.evaluate(start.step))
    elif last is None:
        durable.report_resumed_checkpoint(start.step)
    batches.close()
    callbacks.close()
    reporter.report_phase(RankPhase.FINISHED)
    log_on_rank_0(world, end_message(limits, reporter.step, last))
    return ExitCode.SUSPENDED if reporter.step < limits.steps else ExitCode.SUCCESS


@dataclass(frozen=True)
class TrainingSetup:
    """A generation's setup: the models to train, with the state of its start."""

    config: RunConfig  # with the limits that are in force
    store: CheckpointStore
    model: ParallelModel
    optimizer: ShardedOptimizer
    generation: GenerationId
    copies: MemoryCopies | None
    start: StartPosition
    limits: RunLimits
    beside: TrainedValueModel | None


def build_training_setup(
    config: RunConfig,
    agent: AgentClient,
    world: DistributedContext,
    reporter: Reporter,
    build: BuildBeside | None = None,
) -> TrainingSetup:
    """Build model and optimizer, and load the state of the last checkpoint, or of another source. Collective.

    `build` builds a second network to train beside the model.
    """
    use_determinism(config.training.deterministic)
    torch.manual_seed(config.training.seed)
    reporter.report_phase(RankPhase.LOADING)
    store = open_store(config)
    invariant = config.rollout is not None and config.rollout.batch_invariant
    model = build_model(config, world, batch_invariant=invariant)
    optimizer = build_optimizer(model.module, config.training.optimizer)
    generation = GenerationId.parse(os.environ.get(Env.GENERATION, "0.0"))
    value = None if build is None else build(config, model, world)
    beside = () if value is None else (value.tensors,)
    copies = open_memory(config, model.module, optimizer, world, generation, beside)
    start = load_newest_state(config, store, model.module, optimizer, world, agent, copies, beside)
    model.module.sync_tied()
    if value is not None:
        value.load_initial_weights(start, world)
    limits = RunLimits(config)
    limits.apply_newest(agent.limits(), world, start.step)
    reporter.set_start(start.step, start.tokens, limits)
    if world.rank == 0:
        agent.resend_metrics(start.rows)
    return TrainingSetup(limits.config, store, model, optimizer, generation, copies, start, limits, value)


def open_saver(
    begun: TrainingSetup,
    world: DistributedContext,
    host: state_tensors.HostCopy,
    tokenizer: bytes,
    processors: SavedProcessors,
    agent: AgentClient,
) -> Saver:
    """Return the writer of this generation's checkpoints, with `tokenizer` and `processors` in each."""
    return Saver(
        begun.store,
        world,
        host,
        generation=begun.generation,
        settings=begun.config.checkpoint,
        sidecars={
            **run_config_file(begun.config),
            layout.TOKENIZER_FILE: tokenizer,
            **processors.checkpoint_files(),
        },
        agent=agent,
        clock=time.time,
    )


def build_training_state(
    state_writer: StateBuilder,
    limits: RunLimits,
    reporter: Reporter,
    agent: AgentClient,
    rollout: Callable[[int], RolloutPosition] | None = None,
) -> TrainingState:
    """Build the checkpoint state of the step just finished; `rollout` returns the step's rollout position."""
    step = reporter.step
    position = rollout(step) if rollout else None
    return state_writer.with_steps(limits.steps).build(
        step, reporter.tokens, agent.get_unstored_rows(), position
    )


def log_on_rank_0(world: DistributedContext, text: str) -> None:
    """Log `text` on rank 0 only, unless it is empty."""
    if world.rank == 0 and text:
        _log.info(text)


def warn_on_rank_0(world: DistributedContext, text: str) -> None:
    """Log a warning on rank 0 only, unless `text` is empty."""
    if world.rank == 0 and text:
        _log.warning(text)


def start_message(limits: RunLimits, world: DistributedContext, start: int) -> str:
    """Return a log line about the training that begins."""
    config = limits.config
    ranks = "1 rank" if world.size == 1 else f"{world.size} ranks"
    shape = model_shape(config)
    adapters = f" and {shape.adapter_parameters:,} trained in adapters" if shape.adapter else ""
    return (
        f"run {config.run.name}: {shape.parameters:,} parameters{adapters}, "
        f"{ranks} on {world.device.type}, {limits.steps} steps, "
        f"{f'from step {start}' if start else 'from the start'}"
    )


def end_message(limits: RunLimits, step: int, last: StepResult | None) -> str:
    """Return a log line about the end after `step`; `last` is the last step trained here, if any."""
    folder = limits.config.checkpoint.uri
    if step < limits.steps:
        return f"suspended at step {step} of {limits.steps}; checkpoint in {folder}"
    if last is None:
        return f"nothing left to do: step {step} is already in {folder}"
    return f"finished at step {step}; loss {last.loss:.4f}; checkpoint in {folder}"
