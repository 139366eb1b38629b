"""Checkpoint folders made by hand, with everything but real tensors; and what ranks begin with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.tensor import DTensor

from footplate_contracts.runconfig import RunConfig, World
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CommitMarker, Manifest
from footplate_trainer.checkpoint.state_tensors import snapshot_tensors
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.tensor_reader import load_tensors, read_index
from footplate_trainer.checkpoint.training_state import StateBuilder
from footplate_trainer.manifest.run_file import read_run
from footplate_trainer.optim.optimizer import build_optimizer
from footplate_trainer.parallel.parallel_model import build_model
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.stages.start import StartPosition, load_newest_state, open_store
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config, tiny_manifest
from tests.support.training import FakeAgent, train


def write_checkpoint(folder: Path, step: int, *overrides: str, commit: bool = True) -> Path:
    """A whole step directory of the tiny run in `folder`, written by generation 1.2 on two ranks."""
    config = tiny_config(folder / "shards", folder.parent, overrides)
    described = StateBuilder(49_312, 2, config.training.global_batch_size, 0, {"threads": 1}).build(
        step, 31 * step
    )
    directory, store = f"step-{step}.e1g2", CheckpointStore(folder)
    content = {
        layout.INDEX_FILE: b'{"tensors": {}}',
        layout.tensor_file(0): b"rows of rank 0" * step,
        layout.RUN_FILE: json.dumps(config.to_json()).encode(),
        layout.STATE_FILE: json.dumps(described.to_json()).encode(),
    }
    files = [store.write(directory, name, content[name]) for name in content]
    manifest = Manifest(format=layout.FORMAT, written_by="0.1.0", files=files)
    store.write(directory, layout.MANIFEST_FILE, json.dumps(manifest.to_json()).encode())
    if commit:
        marker = CommitMarker(step=step, directory=directory, tokens=31 * step, time=1_800_000_000.0)
        assert store.commit(marker)
    return folder / directory


def whole_tensors(store: CheckpointStore, step: int) -> dict[str, torch.Tensor]:
    """Every tensor of a committed step, whole, whatever layout wrote it."""
    marker = store.marker(step)
    assert marker is not None
    checkpoint = StepCheckpoint(store, marker.directory)
    tensors = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype)
        for name, tensor in read_index(checkpoint).tensors.items()
    }
    load_tensors(checkpoint, tensors)
    return tensors


# -- what ranks find when they start ---------------------------------------------------------------


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


# -- a model in a folder, and a run that begins with it --------------------------------------------


def export_tiny(shards: Path, folder: Path) -> Path:
    """`folder` with `checkpoints` of a small GPT-2, and the same `exported`."""
    changes = ("model.family=gpt2", "model.keyValueHeads=null", "training.steps=2")
    assert run_ranks(train, 1, tiny_config(shards, folder, changes)) == [0]
    assert main(("export", str(folder / "checkpoints"), str(folder / "exported"))) == 0
    return folder


def config_from(shards: Path, uri: str, folder: Path, model: dict[str, Any]) -> RunConfig:
    """One step so short that the weights stay where they are; its run.json stands in `folder`."""
    manifest = tiny_manifest(shards, folder / "checkpoints")
    manifest["spec"] |= {"model": {"contextLength": 32} | model, "initFrom": {"uri": uri}}
    manifest["spec"]["training"] |= {"steps": 1, "schedule": {}}
    manifest["spec"]["training"]["optimizer"] = {"learningRate": 1e-12}
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(manifest))
    return read_run(folder / "run.json").config(World())
