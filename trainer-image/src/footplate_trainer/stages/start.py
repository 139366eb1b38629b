"""Where a run starts: from its own newest checkpoint, or from the beginning."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import torch
from torch import nn

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint import resume, state
from footplate_trainer.checkpoint.record import Describer, Key, code_revision, determinism_key, differences
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.config import model_shape
from footplate_trainer.data.sources import RunShards
from footplate_trainer.errors import UserMistake
from footplate_trainer.optim.optimizer import Optimizer
from footplate_trainer.parallel.world import World, device_name


@dataclass(frozen=True)
class Start:
    """The position that training goes on from."""

    step: int = 0
    tokens: int = 0
    updates: int = 0  # that the optimizer's moments have seen
    key: Key | None = None  # under which the loaded state was computed; None for a fresh start


def open_store(config: RunConfig) -> CheckpointStore:
    """The folder of checkpoint.uri, made where it needs making."""
    try:
        store = CheckpointStore(config.checkpoint.uri)
    except ValueError as error:
        raise UserMistake(f"checkpoint.uri: {error}") from error
    store.create()
    return store


def find_start(
    config: RunConfig, store: CheckpointStore, model: nn.Module, optimizer: Optimizer, world: World
) -> Start:
    """Load the newest whole checkpoint, if there is one, into model and optimizer. Collective."""
    found = resume.find(store, world, report=_warn)
    if found is None:
        return Start()
    resume.check_same_run(config, found)
    resume.load(found, state.tensors(model, optimizer.moments()), world)
    optimizer.set_updates_done(found.state.updates)
    return Start(found.state.step, found.state.tokens, found.state.updates, found.state.key)


def describer(config: RunConfig, start: Start, shards: RunShards, world: World) -> Describer:
    """What this generation's checkpoints say of themselves; tells where that differs from what it loaded."""
    key = determinism_key(
        config,
        world_size=world.size,
        device=device_name(world.device),
        threads=torch.get_num_threads(),
        data=shards.digest,
        revision=code_revision(os.environ),
    )
    changed = differences(start.key, key) if start.key is not None else []
    if changed and world.rank == 0:
        _warn(
            f"step {start.step} was computed under another determinism key, so what follows is not "
            f"equal to it bit by bit: {'; '.join(changed)}"
        )
    return Describer(
        parameters=model_shape(config).parameters,
        world_size=world.size,
        global_batch_size=config.training.global_batch_size,
        earlier_updates=start.updates - start.step,
        key=key,
    )


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
