"""A model that a run computes and does not train, in the layout of the run: of elsewhere, or of its start.

Whoever asks gets the model and what its weights are. A run that goes on after an interruption opens the same
weights again: the start's are read from where they came from, never from what was trained since.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.durable import resume, transfer
from footplate_trainer.checkpoint.state import model_tensors
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource
from footplate_trainer.checkpoint.tensors import load
from footplate_trainer.errors import CheckpointError
from footplate_trainer.frozen.source import FoundModel, find_model, frozen_config
from footplate_trainer.huggingface.checkpoint_weights import load_checkpoint
from footplate_trainer.huggingface.initial import initial_checkpoint
from footplate_trainer.huggingface.load import load_folder, load_initial
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.apply import ParallelModel, build_frozen
from footplate_trainer.parallel.checksum import weights_checksum
from footplate_trainer.parallel.world import World


@dataclass(frozen=True)
class FrozenModel:
    """A model over the ranks, in evaluation mode and without gradients."""

    model: ParallelModel
    checksum: str  # of its weights: equal for equal ones, whatever place and layout they come in
    step: str  # the directory of a run's folder in which it was found; "" for any other place
    alpha: float | None = None  # of its adapters, if it has any: they scale by it, and it is no weight


def open_found(found: FoundModel, config: RunConfig, beside: ParallelModel, world: World) -> FrozenModel:
    """The model that `found` tells of, the same on every rank, laid out as `beside`. Collective.

    Raises, on every rank, UserMistake where it does not suit the run, CheckpointError where it is damaged,
    and what reading it raises.
    """
    own = frozen_config(found, config, world.size)
    model = build_frozen(own, world, beside)
    load_found(found, own, model, world)
    return _opened(own, model, world, found.directory)


def load_trained(found: FoundModel, own: RunConfig, model: ParallelModel, world: World) -> None:
    """As `load_found`, where `model` is trained and has no adapters: those of `found` are merged."""
    if found.checkpoint is None:
        load_folder(found.folder, own, model.module, world)
    else:
        load_checkpoint(found.checkpoint, own, model.module, world)
    model.module.sync_tied()


def load_found(found: FoundModel, own: RunConfig, model: ParallelModel, world: World) -> None:
    """Fill `model`, the network of `own`, with what `found` tells of. Collective; raises as `open_found`."""
    if found.checkpoint is None:
        load_folder(found.folder, own, model.module, world)
    else:
        _load_step(found.checkpoint, model, world)
    model.module.sync_tied()


def open_at(
    uri: str, field: str, config: RunConfig, beside: ParallelModel, world: World, step: str = ""
) -> tuple[FoundModel, FrozenModel]:
    """The model at `uri`, and what rank 0 found there: in `step` of a run's folder, where that is known."""

    def find() -> FoundModel:
        return find_model(uri, field, step or None, config.lineage)

    found = agree.from_rank_0(find, world.background)
    return found, open_found(found, config, beside, world)


def open_start(config: RunConfig, beside: ParallelModel, world: World, step: str = "") -> FrozenModel:
    """The weights that the run `config` began with, laid out as `beside`. Collective.

    `step` is the directory that they were read from, where that is known and was in a run's folder, which may
    have newer ones by now. Raises what loading them at the start does.
    """
    # Of equal weights both then say the same, bit by bit.
    model = build_frozen(config, world, beside, batch_invariant=beside.invariant)
    if config.init_from is not None:
        step = load_beginning(config, model, world, step)
    elif config.resume_from is not None:
        asked = config.resume_from
        source = (
            StepCheckpoint(transfer.source_of(asked), step) if step else transfer.find_source(asked, world)
        )
        _load_step(source, model, world)
        step = source.directory
    return _opened(config, model, world, step)


def load_beginning(config: RunConfig, model: ParallelModel, world: World, step: str = "") -> str:
    """Fill `model` with the weights of initFrom, from `step` of a run's folder; which that was. Collective.

    Raises what loading them at the start does.
    """
    located = agree.from_rank_0(lambda: _began_with(config), world.background)
    if located is None:
        load_initial(config, model.module, world)
        return step
    store, newest = located
    step = step or newest
    load_checkpoint(StepCheckpoint(CheckpointSource(store), step), config, model.module, world)
    return step


def _began_with(config: RunConfig) -> tuple[str, str] | None:
    """The folder and directory of the checkpoint that initFrom means now; None for a folder of weights."""
    assert config.init_from is not None
    checkpoint = initial_checkpoint(config.init_from, config.lineage)
    return None if checkpoint is None else (checkpoint.store.uri, checkpoint.directory)


def _load_step(checkpoint: StepCheckpoint, model: ParallelModel, world: World) -> None:
    damage = resume.agreed_damage(checkpoint, world)
    if damage is not None:
        raise CheckpointError(f"checkpoint {checkpoint.name} is damaged: {damage}; name another one")
    load(checkpoint, model_tensors(model.module), world.background)


def _opened(own: RunConfig, model: ParallelModel, world: World, step: str) -> FrozenModel:
    model.module.sync_tied()
    checksum = weights_checksum(dict(model.module.named_parameters()), world.background)
    adapter = own.model.adapter
    alpha = None if adapter is None else float(adapter.rank if adapter.alpha is None else adapter.alpha)
    return FrozenModel(model, checksum, step, alpha)
