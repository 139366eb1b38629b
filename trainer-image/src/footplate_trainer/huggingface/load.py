"""Loads the weights of a run's initFrom; each rank reads its own part of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointSource
from footplate_trainer.errors import StorageError, TrainerError
from footplate_trainer.huggingface.checkpoint_weights import load_checkpoint
from footplate_trainer.huggingface.folder import ModelFolder
from footplate_trainer.huggingface.initial import check_rules, folder_model, initial_checkpoint
from footplate_trainer.huggingface.reader import FolderReader
from footplate_trainer.huggingface.sequence_classification import label_count
from footplate_trainer.input_folder import NodeFolder
from footplate_trainer.model.linear import SCORE, is_adapter_parameter
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.world import DistributedContext


@dataclass(frozen=True)
class WeightsOrigin:
    """The origin of initial weights."""

    name: str  # as messages have it
    directory: str = ""  # of a run's folder; "" for a folder of weights


def load_initial(config: RunConfig, model: nn.Module, world: DistributedContext) -> WeightsOrigin:
    """Fill this rank's part of `model` from the folder or checkpoint of a completed `config`.

    Collective. Raises the errors of `load_folder`, `initial_checkpoint` and `load_checkpoint` on any rank.
    """
    assert config.init_from is not None
    asked, lineage = config.init_from, config.lineage
    checkpoint = object_collectives.compute_on_rank_0(
        lambda: _located(initial_checkpoint(asked, lineage)), world.background
    )
    if checkpoint is not None:
        store, directory = checkpoint
        source = StepCheckpoint(CheckpointSource(store), directory)
        return WeightsOrigin(load_checkpoint(source, config, model, world), directory)
    folder = ModelFolder(asked.place)
    load_folder(folder, config, model, world)
    return WeightsOrigin(folder.name)


def load_folder(folder: ModelFolder, config: RunConfig, model: nn.Module, world: DistributedContext) -> None:
    """Fill this rank's part of `model`, which is that of `config`, from `folder`.

    Adapters stay unchanged, and so does a head of scores where the folder's model has another. Rows of a
    vocabulary that grows begin as the mean of the folder's.

    Collective.

    Raises UserMistake when the folder's tensors are not those of its config.json, or that describes no valid
    network, and the errors of `ModelFolder.weights` on any rank.
    """
    check_rules(folder, config.model)
    there = fetch_weights_everywhere(folder, config.run.uid, world)
    shape, scored = model_shape(config), label_count(folder.config()) > 0
    with torch.device("meta"):
        names = _folder_names(build_network(shape), scored)
    parameters = dict(model.named_parameters())
    stored = (
        folder_model(ModelFolder(str(there.path))) if config.model.resize_token_embeddings else config.model
    )
    reader = FolderReader(there.path, stored, names, folder.name, headless=shape.labels > 0)
    for name in _folder_names(model, scored):
        parameter = parameters[name]
        piece = local_shard(parameter)
        part = reader.rows(name, parameter.shape, piece.start[0], piece.local.shape[0])
        if part.ndim > 1:
            part = part.narrow(1, piece.start[1], piece.local.shape[1])
        piece.local.copy_(part)


def _located(checkpoint: StepCheckpoint | None) -> tuple[str, str] | None:
    return None if checkpoint is None else (checkpoint.store.uri, checkpoint.directory)


def fetch_weights_everywhere(folder: ModelFolder, run: str, world: DistributedContext) -> NodeFolder:
    """Return this rank's node's copy of the weights, which is the same on all nodes. Collective.

    Raises, on every rank, the first error of any rank, and StorageError where nodes have copied other files.
    """
    error: TrainerError | None = None
    there = NodeFolder(Path())
    try:
        there = folder.fetch_weights(run, world.local_rank)
    except TrainerError as found:
        error = found
    object_collectives.raise_first(error, world.background)
    if len(set(object_collectives.all_gather(there.digest, world.background))) > 1:
        raise StorageError(
            f"{folder.field} {folder.uri} changed while nodes copied it: they have different weights; write "
            "it to another folder, and use that"
        )
    return there


def _folder_names(model: nn.Module, scored: bool) -> list[str]:
    """Return the parameters that a folder has; it has a head of scores if its model is `scored`."""
    names = [name for name, _ in model.named_parameters() if not is_adapter_parameter(name)]
    return names if scored else [name for name in names if not name.startswith(SCORE)]
