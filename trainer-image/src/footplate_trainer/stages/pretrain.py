"""Next-token pre-training: the whole program, top to bottom.

Build, load what the last checkpoint knows, open the data, train, save. `main`
is the one place where an exception becomes an exit code.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import GenerationId, RankPhase
from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.link import Link
from footplate_planning.config import model_shape
from footplate_trainer import failure
from footplate_trainer.checkpoint import layout, state
from footplate_trainer.checkpoint.saver import Saver
from footplate_trainer.data.sources import RunShards
from footplate_trainer.huggingface.initial import completed
from footplate_trainer.loop import Stepper, train
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.apply import build_model
from footplate_trainer.parallel.objective import Objective
from footplate_trainer.parallel.world import World, open_world, read_environment, use_determinism
from footplate_trainer.stages.course import Course, newest_of, run_file
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.layout import require_layout
from footplate_trainer.stages.losses import objective_of
from footplate_trainer.stages.moments import Progress, RunMoments
from footplate_trainer.stages.sinks import open_sinks
from footplate_trainer.stages.start import describer, find_start, open_memory, open_store
from footplate_trainer.stages.validation import open_validator


@dataclass(frozen=True)
class Options:
    """What is asked for on the command line and not in the run."""

    metrics: Path | None = None


def main(config: RunConfig, link: Link, options: Options) -> ExitCode:
    """Train `config` as the rank that the environment names; every error ends in its exit code."""
    place = read_environment(os.environ)
    progress: Progress | None = None
    try:
        config = completed(config)
        require_layout(config, place.world_size)
        objective = objective_of(config)
        with open_world(place, config.world.backend) as world:
            progress = Progress(link, world)
            return _train(config, objective, link, options, world, progress)
    except Exception as error:  # noqa: BLE001 - the process edge: told, classified, never raised on
        step = progress.step if progress else None
        report = failure.describe(error, rank=place.rank, step=step, now=time.time())
        failure.tell(error, report, os.environ)
        return failure.exit_code(error)


def _train(
    config: RunConfig, objective: Objective, link: Link, options: Options, world: World, progress: Progress
) -> ExitCode:
    use_determinism(config.training.deterministic)
    torch.manual_seed(config.training.seed)
    progress.enter(RankPhase.LOADING)

    store = open_store(config)
    laid_out = build_model(config, world)
    optimizer = build_optimizer(laid_out.model, config.training.optimizer)
    generation = GenerationId.parse(os.environ.get(Env.GENERATION, "0.0"))
    memory = open_memory(config, laid_out.model, optimizer, world, generation)
    start = find_start(config, store, laid_out.model, optimizer, world, memory)
    laid_out.model.spread()
    course = Course(config)
    course.take(newest_of(course.newest(link.terms()), world), start.step)
    config = course.config
    progress.step, progress.tokens, progress.total_steps = start.step, start.tokens, course.steps
    progress.enter(RankPhase.LOADING)

    shards = open_shards(config, world, verify=start.key is None)
    batches = open_loader(config, shards, laid_out.grid)
    saver = Saver(
        store,
        world,
        state.HostCopy(laid_out.model, optimizer.moments(), laid_out.host_mesh),
        generation=generation,
        settings=config.checkpoint,
        sidecars=_sidecars(config, shards) if world.rank == 0 else {},
        link=link,
        clock=time.time,
    )
    described = describer(config, start, shards, world)
    stepper = Stepper(
        laid_out,
        optimizer,
        world,
        config.training.gradient_clip_norm,
        objective,
        config.training.seed,
    )
    validator = open_validator(config, objective, world, laid_out.grid, stepper, verify=start.key is None)
    sinks = open_sinks(config, options.metrics, progress.step) if world.rank == 0 else []
    moments = RunMoments(
        course, link, world, saver, memory, described, progress, sinks, stepper.stopwatch, validator
    )
    if world.rank == 0:
        print(_greeting(course, world, progress.step), flush=True)
    train(stepper, batches, course, moments, progress.step)
    batches.close()
    moments.close()
    progress.enter(RankPhase.FINISHED)
    if world.rank == 0:
        print(_farewell(course, progress.step, moments), flush=True)
    return ExitCode.SUSPENDED if moments.suspended else ExitCode.SUCCESS


def _sidecars(config: RunConfig, shards: RunShards) -> dict[str, bytes]:
    """What makes a checkpoint directory stand alone."""
    return {**run_file(config), layout.TOKENIZER_FILE: shards.tokenizer}


def _greeting(course: Course, world: World, start: int) -> str:
    config = course.config
    ranks = "1 rank" if world.size == 1 else f"{world.size} ranks"
    shape = model_shape(config)
    adapters = f" and {shape.adapter_parameters:,} in adapters, which are trained" if shape.adapter else ""
    return (
        f"run {config.run.name}: {shape.parameters:,} parameters{adapters}, "
        f"{ranks} on {world.device.type}, {course.steps} steps, "
        f"{f'from step {start}' if start else 'from the start'}"
    )


def _farewell(course: Course, step: int, moments: RunMoments) -> str:
    folder = course.config.checkpoint.uri
    if moments.suspended:
        return f"suspended at step {step} of {course.steps}, as asked; checkpoint in {folder}"
    if moments.loss is None:
        return f"nothing left to do: step {step} is in {folder} already"
    return f"finished at step {step}; loss {moments.loss:.4f}; checkpoint in {folder}"
