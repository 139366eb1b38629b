"""The weights of a run's initFrom, each rank reading its own part of them."""

from __future__ import annotations

import torch
from torch import nn

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_trainer.huggingface.initial import check_rules
from footplate_trainer.huggingface.reader import FolderReader
from footplate_trainer.model.build import build
from footplate_trainer.model.linear import is_adapters
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.storage import local_path


def load_initial(config: RunConfig, model: nn.Module) -> str:
    """Fill this rank's part of `model` from the folder of a completed `config`; the folder's name.

    Adapters are left as they are.

    Raises UserMistake when the folder's tensors are not those of its config.json, or that can be no network.
    """
    assert config.init_from is not None
    folder = local_path(config.init_from.uri)
    check_rules(folder, config.model)
    with torch.device("meta"):
        names = _folder_names(build(model_shape(config)))
    parameters = dict(model.named_parameters())
    reader = FolderReader(folder, config.model, names)
    for name in _folder_names(model):
        parameter = parameters[name]
        piece = local_shard(parameter)
        part = reader.rows(name, parameter.shape, piece.start[0], piece.local.shape[0])
        if part.ndim > 1:
            part = part.narrow(1, piece.start[1], piece.local.shape[1])
        piece.local.copy_(part)
    return str(folder)


def _folder_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters() if not is_adapters(name)]
