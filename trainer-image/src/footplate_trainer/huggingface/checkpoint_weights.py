"""Initial weights of a run from another run's checkpoint, written in any layout.

Adapters are merged: the new run begins with what the first one computes, and has adapters of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint.durable import resume
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.tensor_reader import load_tensors, read_index
from footplate_trainer.errors import CheckpointError, UserMistake
from footplate_trainer.huggingface.adapter import matrices
from footplate_trainer.model.linear import SCORE, is_adapter_parameter
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.world import DistributedContext

_PREFIX = "model."


def load_checkpoint(
    checkpoint: StepCheckpoint, config: RunConfig, model: nn.Module, world: DistributedContext
) -> str:
    """Fill this rank's part of `model` from `checkpoint`; return the checkpoint's name.

    Adapters of `model` stay unchanged, and so does a head of scores that `checkpoint` lacks. Of a longer
    table of positions, the first rows are read. Collective.

    Raises, on every rank, UserMistake where embeddings should grow, CheckpointError where it is damaged, and
    StorageError while it cannot be read.
    """
    if config.model.resize_token_embeddings:
        raise UserMistake(
            "model.resizeTokenEmbeddings: a checkpoint's embeddings cannot be resized; export "
            f"{checkpoint.name} to a folder (footplate-trainer export), and set initFrom.uri to it"
        )
    damage = resume.agreed_damage(checkpoint, world)
    if damage is not None:
        raise CheckpointError(f"checkpoint {checkpoint.name} is damaged: {damage}; use another one")
    there = read_index(checkpoint).tensors
    parameters = {
        name: own.detach()
        for name, own in model.named_parameters()
        if not is_adapter_parameter(name) and (_PREFIX + name in there or not name.startswith(SCORE))
    }
    equal: dict[str, Tensor] = {}
    longer: dict[str, Tensor] = {}
    for name, own in parameters.items():
        stored = there[_PREFIX + name]
        if tuple(own.shape) == tuple(stored.shape):
            equal[_PREFIX + name] = own
        else:
            longer[_PREFIX + name] = torch.empty(stored.shape)
    thin = _adapters(checkpoint, parameters)
    load_tensors(
        checkpoint,
        {**equal, **longer, **{_PREFIX + name: matrix for name, matrix in thin.items()}},
        world.background,
    )
    for name, whole in longer.items():
        piece = local_shard(parameters[name.removeprefix(_PREFIX)])
        piece.local.copy_(_block(whole, piece.local, piece.start))
    _merge(checkpoint, parameters, thin)
    return checkpoint.name


def _adapters(checkpoint: StepCheckpoint, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return empty whole tensors for the matrices of the checkpoint's adapters of this rank's layers."""
    shape = model_shape(checkpoint.config())
    room: dict[str, Tensor] = {}
    for layer, (inputs, outputs) in (shape.adapted_layers() if shape.adapter else {}).items():
        if f"{layer}.weight" in parameters:
            assert shape.adapter is not None
            a, b = matrices(layer)
            room[a] = torch.empty(shape.adapter.rank, inputs)
            room[b] = torch.empty(outputs, shape.adapter.rank)
    return room


def _merge(checkpoint: StepCheckpoint, parameters: dict[str, Tensor], thin: dict[str, Tensor]) -> None:
    """Add alpha / rank B A to this rank's block of each adapted layer's weight."""
    adapter = model_shape(checkpoint.config()).adapter
    for name, own in parameters.items():
        a, b = matrices(name.removesuffix(".weight"))
        if adapter is None or a not in thin:
            continue
        piece = local_shard(own)
        rows = thin[b].narrow(0, piece.start[0], piece.local.shape[0])
        columns = thin[a].narrow(1, piece.start[1], piece.local.shape[1])
        piece.local.add_((rows @ columns).to(piece.local), alpha=adapter.alpha / adapter.rank)


def _block(whole: Tensor, local: Tensor, start: tuple[int, ...]) -> Tensor:
    """Return the block of `whole` at `start` with the shape of `local`."""
    for dimension, first in enumerate(start):
        whole = whole.narrow(dimension, first, local.shape[dimension])
    return whole
