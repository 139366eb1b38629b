"""What the ranks of any layout find when they start, as plain arrays that can be compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.tensor import DTensor

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.state_tensors import snapshot_tensors
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.stages.start import StartPosition, load_newest_state, open_store
from tests.support.training import FakeAgent

Array = NDArray[Any]


def begin(config: RunConfig) -> tuple[StartPosition, dict[str, Array]]:
    """Where one rank of `config` starts, and those tensors that it holds a part of, whole."""
    with init_distributed(read_environment(os.environ), config.world.backend) as world:
        model = build_model(config, world)
        optimizer = build_optimizer(model.module, config.training.optimizer)
        start = load_newest_state(config, open_store(config), model.module, optimizer, world, FakeAgent())
        named = snapshot_tensors(model.module, optimizer.moments())
        return start, {name: whole(tensor) for name, tensor in named.items()}


def whole(tensor: Tensor) -> Array:
    """All of a tensor; collective among the ranks that share it."""
    array: Array = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).numpy()
    return array


def equal(found: Mapping[str, Array], expected: Mapping[str, Tensor], *names: str) -> bool:
    """Whether the named tensors, or all expected ones, are equal bit by bit."""
    return all(np.array_equal(found[name], expected[name].numpy()) for name in names or expected)
