"""Loads a frozen model in the run's layout: another model, or the one that the run began with.

The caller gets the model and the checksum of its weights. A run that goes on after an interruption loads the
same weights again: its initial weights are read from their source, never from what was trained since.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.durable import resume, warm_start
from footplate_trainer.checkpoint.state_tensors import model_tensors
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource
from footplate_trainer.checkpoint.tensor_reader import load_tensors
from footplate_trainer.errors import CheckpointError
from footplate_trainer.frozen.source import ModelSource, find_model, frozen_config
from footplate_trainer.huggingface.checkpoint_weights import load_checkpoint
from footplate_trainer.huggingface.initial import initial_checkpoint
from footplate_trainer.huggingface.load import load_folder, load_initial
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.parallel_model import ParallelModel, build_frozen
from footplate_trainer.parallel.world import DistributedContext


@dataclass(frozen=True)
class LoadedFrozenModel:
    """A model over the ranks, in evaluation mode and without gradients."""

    model: ParallelModel
    checksum: str  # of its weights: equal for equal ones, whatever place and layout they come in
    step: str  # the directory of a run's folder in which it was found; "" for any other place
    alpha: float | None = None  # of its adapters, if it has any: they scale by it, and it is no weight


def open_found_model(
    found: ModelSource, config: RunConfig, beside: ParallelModel, world: DistributedContext
) -> LoadedFrozenModel:
    """Load the model that `found` describes, equal on every rank, in the layout of `beside`. Collective.

    Raises, on every rank, UserMistake if it does not suit the run, CheckpointError if it is damaged,
    and the errors of reading it.
    """
    own = frozen_config(found, config, world.size)
    model = build_frozen(own, world, beside)
    load_model_weights(found, own, model, world)
    return _opened(own, model, world, found.directory)


def load_merged_weights(
    found: ModelSource, own: RunConfig, model: ParallelModel, world: DistributedContext
) -> None:
    """Fill `model`, which is trained and has no adapters, from `found`, whose adapters are merged.

    Otherwise as `load_model_weights`.
    """
    if found.checkpoint is None:
        load_folder(found.folder, own, model.module, world)
    else:
        load_checkpoint(found.checkpoint, own, model.module, world)
    model.module.sync_tied()


def load_model_weights(
    found: ModelSource, own: RunConfig, model: ParallelModel, world: DistributedContext
) -> None:
    """Fill `model`, the network of `own`, with the weights of `found`.

    Collective; raises as `open_found_model`.
    """
    if found.checkpoint is None:
        load_folder(found.folder, own, model.module, world)
    else:
        _load_step(found.checkpoint, model, world)
    model.module.sync_tied()


def open_at(
    uri: str, field: str, config: RunConfig, beside: ParallelModel, world: DistributedContext, step: str = ""
) -> tuple[ModelSource, LoadedFrozenModel]:
    """Load the model at `uri`; return it with rank 0's description. `step`: in a run's folder, if known."""

    def find() -> ModelSource:
        return find_model(uri, field, step or None, config.lineage)

    found = object_collectives.compute_on_rank_0(find, world.background)
    return found, open_found_model(found, config, beside, world)


def open_initial_model(
    config: RunConfig, beside: ParallelModel, world: DistributedContext, step: str = ""
) -> LoadedFrozenModel:
    """Load the weights that the run `config` began with, in the layout of `beside`. Collective.

    `step` is the directory that they were read from, if known and in a run's folder, which may
    have newer ones by now. Raises the errors of loading them at the start.
    """
    # Of equal weights both then say the same, bit by bit.
    model = build_frozen(config, world, beside, batch_invariant=beside.invariant)
    if config.init_from is not None:
        step = load_init_from(config, model, world, step)
    elif config.resume_from is not None:
        asked = config.resume_from
        source = (
            StepCheckpoint(warm_start.open_source_folder(asked), step)
            if step
            else warm_start.find_source(asked, world)
        )
        _load_step(source, model, world)
        step = source.directory
    return _opened(config, model, world, step)


def load_init_from(config: RunConfig, model: ParallelModel, world: DistributedContext, step: str = "") -> str:
    """Fill `model` with the weights of initFrom, from `step` of a run's folder; return `step`. Collective.

    If `step` is "", it is the checkpoint that initFrom names now. Raises the errors of loading them at the
    start.
    """
    located = object_collectives.compute_on_rank_0(lambda: _began_with(config), world.background)
    if located is None:
        load_initial(config, model.module, world)
        return step
    store, newest = located
    step = step or newest
    load_checkpoint(StepCheckpoint(CheckpointSource(store), step), config, model.module, world)
    return step


def _began_with(config: RunConfig) -> tuple[str, str] | None:
    """Return folder and directory of the checkpoint that initFrom now names; None for a folder of weights."""
    assert config.init_from is not None
    checkpoint = initial_checkpoint(config.init_from, config.lineage)
    return None if checkpoint is None else (checkpoint.store.uri, checkpoint.directory)


def _load_step(checkpoint: StepCheckpoint, model: ParallelModel, world: DistributedContext) -> None:
    damage = resume.agreed_damage(checkpoint, world)
    if damage is not None:
        raise CheckpointError(f"checkpoint {checkpoint.name} is damaged: {damage}; use another one")
    load_tensors(checkpoint, model_tensors(model.module), world.background)


def _opened(own: RunConfig, model: ParallelModel, world: DistributedContext, step: str) -> LoadedFrozenModel:
    model.module.sync_tied()
    checksum = weights_checksum(dict(model.module.named_parameters()), world.background)
    adapter = own.model.adapter
    alpha = None if adapter is None else float(adapter.rank if adapter.alpha is None else adapter.alpha)
    return LoadedFrozenModel(model, checksum, step, alpha)
