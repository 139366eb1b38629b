"""Checkpoint folders made by hand, with everything but real tensors; and the tensors of real ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CommitMarker, Manifest
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.tensor_reader import load_tensors, read_index
from footplate_trainer.checkpoint.training_state import StateBuilder
from tests.support.tiny import tiny_config


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
