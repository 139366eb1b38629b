"""The program of stages that learn from a fixed data set, top to bottom.

Build, load what the last checkpoint knows, open the data, train, save. Stages
differ in the data that they read and in what they minimise.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import GenerationId, RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.model import Architecture
from footplate_contracts.v1alpha1.training import Stage
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import model_shape
from footplate_trainer.callbacks.checkpoints import (
    DurableCheckpoints,
    FailedCheckpoints,
    MemoryCheckpoints,
    run_file,
)
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.lease import Lease
from footplate_trainer.callbacks.limits import LimitsFollower
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.callbacks.suspension import Suspension
from footplate_trainer.checkpoint import layout, state
from footplate_trainer.checkpoint.durable.saver import Saver
from footplate_trainer.checkpoint.memory.mirror import MemoryCopies
from footplate_trainer.checkpoint.record import StateWriter, TrainingState
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.errors import UserMistake
from footplate_trainer.loop.callbacks import Callbacks
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import Stepper, StepResult
from footplate_trainer.loop.train import train
from footplate_trainer.optim.optimizer import Optimizer, build_optimizer
from footplate_trainer.parallel.apply import ParallelModel, build_model
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import World, read_environment, use_determinism
from footplate_trainer.stages.companions import find_companions
from footplate_trainer.stages.inputs import open_loader, open_shards, open_validation
from footplate_trainer.stages.losses import objective_of
from footplate_trainer.stages.process import Program, run_stage
from footplate_trainer.stages.reference import StageReference, check_reference
from footplate_trainer.stages.start import Start, find_start, open_memory, open_store, state_writer

_log = logging.getLogger(__name__)


def main(config: RunConfig, agent: AgentClient, metrics: Path | None = None) -> ExitCode:
    """Train `config` as the rank that the environment names; every error ends in its exit code.

    `metrics` is a file for rows beside those that the run asks for.
    """

    def stage(config: RunConfig) -> Program:
        _require_decoder(config)
        check_reference(config, read_environment(os.environ).world_size)
        return partial(_learn, config, objective_of(config), agent, metrics)

    return run_stage(config, agent, stage)


def _require_decoder(config: RunConfig) -> None:
    """UserMistake where a folder brought a model that the stage cannot train; of others the spec tells."""
    if config.stage in (Stage.SFT, Stage.DPO) and config.model.architecture is not Architecture.DECODER:
        raise UserMistake(
            f"stage {config.stage} trains decoders, and initFrom names an {config.model.architecture}; name "
            "another folder"
        )


def _learn(
    config: RunConfig,
    objective: Objective,
    agent: AgentClient,
    metrics: Path | None,
    world: World,
    reporter: Reporter,
) -> ExitCode:
    begun = _begin(config, agent, world, reporter)
    config, model, optimizer, start = begun.config, begun.model, begun.optimizer, begun.start

    shards = open_shards(config, world, verify=start.key is None)
    batches = open_loader(config, shards, model.grid)
    host = state.HostCopy(model.module, optimizer.moments(), model.host_mesh)
    saver = _open_saver(config, begun.store, world, host, begun.generation, shards.tokenizer, agent)
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
    state_now = partial(_state, writer, limits, reporter, agent)
    durable = DurableCheckpoints(saver, state_now, limits, reporter, stepper.stopwatch, rows.flush)
    callbacks = Callbacks(
        reporter,
        Lease(agent),
        Suspension(agent),
        Diagnostics(config.checkpoint.uri, agent, world, reporter),
        LimitsFollower(limits, agent, world, start.step),
        validation,
        FailedCheckpoints(saver),
        rows,
        durable,
        MemoryCheckpoints(copies, state_now, reporter, stepper.stopwatch) if copies else None,
    )
    _say(world, _greeting(limits, world, start.step))
    _say(world, str(batches.dataset))
    last = train(stepper, batches, limits, callbacks, start.step)
    if last is None and not start.durable:
        durable.save(ends=True)  # the run was shortened to a step that only the nodes' memory holds
    batches.close()
    callbacks.close()
    reporter.enter(RankPhase.FINISHED)
    _say(world, _farewell(limits, reporter.step, last))
    return ExitCode.SUSPENDED if reporter.step < limits.steps else ExitCode.SUCCESS


@dataclass(frozen=True)
class _Begun:
    """Where this generation begins: what is trained, with the state of its start."""

    config: RunConfig  # with the limits that are in force
    store: CheckpointStore
    model: ParallelModel
    optimizer: Optimizer
    generation: GenerationId
    copies: MemoryCopies | None
    start: Start
    limits: RunLimits


def _begin(config: RunConfig, agent: AgentClient, world: World, reporter: Reporter) -> _Begun:
    """Build model and optimizer, and load what the last checkpoint, or another place, knows. Collective."""
    use_determinism(config.training.deterministic)
    torch.manual_seed(config.training.seed)
    reporter.enter(RankPhase.LOADING)
    store = open_store(config)
    model = build_model(config, world)
    optimizer = build_optimizer(model.module, config.training.optimizer)
    generation = GenerationId.parse(os.environ.get(Env.GENERATION, "0.0"))
    copies = open_memory(config, model.module, optimizer, world, generation)
    start = find_start(config, store, model.module, optimizer, world, agent, copies)
    model.module.sync_tied()
    limits = RunLimits(config)
    limits.agree(agent.limits(), world, start.step)
    reporter.start_from(start.step, start.tokens, limits)
    if world.rank == 0:
        agent.metrics_again(start.rows)
    return _Begun(limits.config, store, model, optimizer, generation, copies, start, limits)


def _open_saver(
    config: RunConfig,
    store: CheckpointStore,
    world: World,
    host: state.HostCopy,
    generation: GenerationId,
    tokenizer: bytes,
    agent: AgentClient,
) -> Saver:
    companions = find_companions(config, store, tokenizer, world)
    return Saver(
        store,
        world,
        host,
        generation=generation,
        settings=config.checkpoint,
        sidecars={**run_file(config), layout.TOKENIZER_FILE: tokenizer, **companions.sidecars()},
        agent=agent,
        clock=time.time,
    )


def _state(
    state_writer: StateWriter, limits: RunLimits, reporter: Reporter, agent: AgentClient
) -> TrainingState:
    """What a checkpoint of the step just finished says of itself."""
    return state_writer.until(limits.steps).at(reporter.step, reporter.tokens, agent.unstored())


def _say(world: World, text: str) -> None:
    """For whoever watches the run: once, and not by every rank; nothing where there is nothing to say."""
    if world.rank == 0 and text:
        _log.info(text)


def _greeting(limits: RunLimits, world: World, start: int) -> str:
    config = limits.config
    ranks = "1 rank" if world.size == 1 else f"{world.size} ranks"
    shape = model_shape(config)
    adapters = f" and {shape.adapter_parameters:,} in adapters, which are trained" if shape.adapter else ""
    return (
        f"run {config.run.name}: {shape.parameters:,} parameters{adapters}, "
        f"{ranks} on {world.device.type}, {limits.steps} steps, "
        f"{f'from step {start}' if start else 'from the start'}"
    )


def _farewell(limits: RunLimits, step: int, last: StepResult | None) -> str:
    folder = limits.config.checkpoint.uri
    if step < limits.steps:
        return f"suspended at step {step} of {limits.steps}, as asked; checkpoint in {folder}"
    if last is None:
        return f"nothing left to do: step {step} is in {folder} already"
    return f"finished at step {step}; loss {last.loss:.4f}; checkpoint in {folder}"
