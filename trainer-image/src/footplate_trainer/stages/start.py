"""The state that a run starts from: its own newest state, another run's weights, or new weights."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from footplate_contracts.names import Env
from footplate_contracts.reports import GenerationId, GenerationRow
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.compute import ResumeFrom
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint import state_tensors
from footplate_trainer.checkpoint.durable import resume, warm_start
from footplate_trainer.checkpoint.layout import GenerationStart, build_removal
from footplate_trainer.checkpoint.memory.memory_copies import MemoryCopies, MemoryFolder
from footplate_trainer.checkpoint.state_tensors import AuxiliaryModel
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.checkpoint.tensor_reader import load_tensors
from footplate_trainer.checkpoint.training_state import (
    Key,
    RolloutPosition,
    StateBuilder,
    TrainingState,
    code_revision,
    determinism_key,
    key_differences,
)
from footplate_trainer.data.sources import RunShards
from footplate_trainer.errors import CheckpointDamaged, UserMistake
from footplate_trainer.huggingface.load import load_initial
from footplate_trainer.optim.optimizer import ShardedOptimizer
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.world import DistributedContext, device_name

Known = TypeVar("Known")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartPosition:
    """The position that training goes on from."""

    step: int = 0
    tokens: int = 0
    updates: int = 0  # that the optimizer's moments have seen
    key: Key | None = None  # under which the loaded state was computed; None for a fresh start
    rows: Sequence[GenerationRow] = ()  # that may be missing in the run's history
    rollout: RolloutPosition | None = None  # of a stage that has any
    durable: bool = True  # whether another start would find it without the nodes' memory
    directory: str = ""  # of another run's folder, whose weights were loaded; "" where none were


def open_store(config: RunConfig) -> CheckpointStore:
    """Open the folder of checkpoint.uri, and create it if needed."""
    store = _store(config)
    store.create()
    return store


def get_checkpointed_config(config: RunConfig) -> RunConfig | None:
    """Return the config in the run's newest checkpoint; None without initFrom, or without a checkpoint.

    With initFrom another folder determines the model's shape. None also if the checkpoint is of another run.
    Not collective: each rank reads it before it knows its model. Loading detects later whether that
    checkpoint is whole.
    """
    return None if config.init_from is None else _of_newest(config, lambda _, written: written)


def get_checkpointed_state(config: RunConfig) -> TrainingState | None:
    """Return the state in the run's newest checkpoint; None without one.

    Otherwise as `get_checkpointed_config`.
    """
    return _of_newest(config, lambda checkpoint, _: checkpoint.state())


def _of_newest(config: RunConfig, of: Callable[[StepCheckpoint, RunConfig], Known]) -> Known | None:
    for checkpoint in resume.iter_readable(_store(config)):
        with suppress(CheckpointDamaged):
            written = checkpoint.config()
            return of(checkpoint, written) if resume.is_same_run(written, config) else None
    return None


def _store(config: RunConfig) -> CheckpointStore:
    try:
        return CheckpointStore(config.checkpoint.uri)
    except ValueError as error:
        raise UserMistake(f"checkpoint.uri: {error}") from error


def load_newest_state(
    config: RunConfig,
    store: CheckpointStore,
    model: nn.Module,
    optimizer: ShardedOptimizer,
    world: DistributedContext,
    agent: AgentClient,
    memory: MemoryCopies | None = None,
    beside: Sequence[AuxiliaryModel] = (),
) -> StartPosition:
    """Load the newest state into model and optimizer, from memory or durable, if there is one. Collective.

    The state includes networks trained `beside`; without a state, they are left as they are.

    Damaged durable checkpoints, which no longer count, are reported to `agent`. If there may be
    copies in `memory`, the start of this generation is recorded in `store`.
    """
    if memory is None:
        return _find_durable(config, store, model, optimizer, world, agent, beside)
    start = _from_memory(memory, store, config.run.uid, optimizer, world)
    if start is None:
        start = _find_durable(config, store, model, optimizer, world, agent, beside)
    latest = GenerationStart.of(start.step, memory.generation, config.run.uid)
    object_collectives.compute_on_rank_0(
        lambda: _note(store, latest), world.background
    )  # before anybody trains a step
    return start


def _note(store: CheckpointStore, latest: GenerationStart) -> None:
    """Record, on rank 0, the start of this generation; training does not depend on it."""
    try:
        store.record_generation_start(latest)
    except OSError as error:
        _log.warning(
            "cannot record in %s that generation %s begins at step %d: %s; a lost node that returns with "
            "copies in memory may restore discarded steps",
            store.uri,
            latest.generation,
            latest.step,
            error.strerror or error,
        )


def _find_durable(
    config: RunConfig,
    store: CheckpointStore,
    model: nn.Module,
    optimizer: ShardedOptimizer,
    world: DistributedContext,
    agent: AgentClient,
    beside: Sequence[AuxiliaryModel],
) -> StartPosition:
    found = resume.find_resume_checkpoint(
        store, world, lambda gone: agent.removal(build_removal(gone, time.time()))
    )
    if found is None:
        return _first_start(
            config, model, state_tensors.snapshot_tensors(model, optimizer.moments()), optimizer, world
        )
    tensors = state_tensors.snapshot_tensors(model, optimizer.moments(), *beside)
    written = resume.check_same_run(config, found)
    load_tensors(found, tensors, world.background)
    start = _go_on(found.state(), optimizer)
    if written.run.uid != config.run.uid:
        return replace(start, rows=())  # applied anew: what its predecessor trained is not in its history
    return start


def _go_on(loaded: TrainingState, optimizer: ShardedOptimizer) -> StartPosition:
    optimizer.set_update_count(loaded.updates)
    return StartPosition(loaded.step, loaded.tokens, loaded.updates, loaded.key, loaded.rows, loaded.rollout)


def _from_memory(
    memory: MemoryCopies,
    store: CheckpointStore,
    run: str,
    optimizer: ShardedOptimizer,
    world: DistributedContext,
) -> StartPosition | None:
    """Load the newest complete copy in memory, unless a durable checkpoint is newer. Collective."""

    def begun() -> list[GenerationStart]:
        with storage_errors(f"checkpoint folder {store.uri}"):
            return store.list_generation_starts(run)

    found = memory.find_newest(object_collectives.compute_on_rank_0(begun, world.background))
    durable = max((step for step, _ in resume.list_committed(store, world)), default=0)
    if found is not None and durable > found.copy.step:
        found = None
    loaded = memory.load(found) if found is not None else None
    memory.delete_others(found)
    if loaded is None:
        return None
    if world.rank == 0:
        _log.info("restored step %d from the nodes' memory", loaded.step)
    return replace(_go_on(loaded, optimizer), durable=durable == loaded.step)


def open_memory(
    config: RunConfig,
    model: nn.Module,
    optimizer: ShardedOptimizer,
    world: DistributedContext,
    generation: GenerationId,
    beside: Sequence[AuxiliaryModel] = (),
) -> MemoryCopies | None:
    """Open the copies that checkpoint.memory configures, if an agent is there to own them. Collective."""
    settings = config.checkpoint.memory
    if settings is None:
        return None
    folder = os.environ.get(Env.MEMORY_FOLDER)
    if folder is None:
        if world.rank == 0:
            _log.warning(
                "checkpoint.memory makes no copies here: no agent provides these ranks a folder in memory"
            )
        return None
    return MemoryCopies(
        MemoryFolder(Path(folder)),
        state_tensors.local_tensors(model, optimizer.moments(), *beside),
        world,
        ranks_per_node=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        generation=generation,
        every_steps=settings.every_steps,
        warn=_log.warning,
    )


def _first_start(
    config: RunConfig,
    model: nn.Module,
    tensors: dict[str, Tensor],
    optimizer: ShardedOptimizer,
    world: DistributedContext,
) -> StartPosition:
    """Return step 0, with weights of another source, or with those that the model has."""
    if config.resume_from is not None:
        return _warm_start(config.resume_from, tensors, optimizer, world)
    if config.init_from is not None:
        loaded = load_initial(config, model, world)
        if world.rank == 0:
            _log.info("weights from %s", loaded.name)
        return StartPosition(directory=loaded.directory)
    return StartPosition()


def _warm_start(
    asked: ResumeFrom, tensors: dict[str, Tensor], optimizer: ShardedOptimizer, world: DistributedContext
) -> StartPosition:
    """Return step 0 with the weights of another run, and with its moments if they fit. Collective."""
    source = warm_start.find_source(asked, world)
    with_moments = warm_start.load_source(source, tensors, world)
    position = source.state()
    updates = position.updates if with_moments else 0
    optimizer.set_update_count(updates)
    if world.rank == 0:
        moments = "" if with_moments else "; its optimizer state does not match and starts at zero"
        _log.info("warm start from step %d in %s%s", position.step, source.name, moments)
    return StartPosition(updates=updates, directory=source.directory)


def state_writer(
    config: RunConfig,
    start: StartPosition,
    shards: RunShards,
    world: DistributedContext,
    reference: Key | None = None,
    value: RunConfig | None = None,
) -> StateBuilder:
    """Return the writer of this generation's checkpoint states; log differences to the loaded key.

    `reference` is the key of further inputs: the weights of a reference and of a reward model, and the tokens
    that the latter reads after an answer. `value` has the network of a value model.
    """
    key = determinism_key(
        config,
        world_size=world.size,
        device=device_name(world.device),
        threads=torch.get_num_threads(),
        data=shards.digest,
        revision=code_revision(os.environ),
        values=shards.values_digest,
        reference=reference,
    )
    changed = key_differences(start.key, key) if start.key is not None else []
    if changed and world.rank == 0:
        _log.warning(
            f"step {start.step} was computed under another determinism key, so later steps are not bitwise "
            f"equal: {'; '.join(changed)}"
        )
    shape = model_shape(config)
    return StateBuilder(
        parameters=shape.parameters + shape.adapter_parameters,
        world_size=world.size,
        global_batch_size=config.training.global_batch_size,
        earlier_updates=start.updates - start.step,
        key=key,
        value=None if value is None else value.model,
    )


class TrainedValueModel(Protocol):
    """A second trained network, built and not filled yet."""

    @property
    def model(self) -> ParallelModel:
        """The network, over the ranks."""

    @property
    def optimizer(self) -> ShardedOptimizer:
        """The network's optimizer."""

    @property
    def tensors(self) -> AuxiliaryModel:
        """The network's tensors in a checkpoint."""

    def load_initial_weights(self, start: StartPosition, world: DistributedContext) -> None:
        """Set initial weights after `start` was found, and loaded if it is a checkpoint. Collective."""


BuildBeside = Callable[[RunConfig, ParallelModel, DistributedContext], TrainedValueModel]
"""Builds it; collective."""
