"""Checkpoint folders made by hand, with everything but real tensors; and the tensors of real ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CommitMarker, Manifest
from footplate_trainer.checkpoint.record import Describer
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.tensors import TensorReader, load_alone
from tests.support.tiny import tiny_config


def write_checkpoint(folder: Path, step: int, *, commit: bool = True) -> Path:
    """A whole step directory of the tiny run in `folder`, written by generation 1.2 on two ranks."""
    config = tiny_config(folder / "shards", folder.parent)
    described = Describer(49_312, 2, config.training.global_batch_size, 0, {"threads": 1}).at(step, 31 * step)
    directory, store = f"step-{step}.e1g2", CheckpointStore(folder)
    content = {
        ".metadata": b"metadata",
        "__0_0.distcp": b"rows of rank 0" * step,
        layout.RUN_FILE: json.dumps(config.to_json()).encode(),
        layout.STATE_FILE: json.dumps(described.to_json()).encode(),
    }
    manifest = Manifest(files=[store.write(directory, name, content[name]) for name in content])
    store.write(directory, layout.MANIFEST_FILE, json.dumps(manifest.to_json()).encode())
    if commit:
        marker = CommitMarker(step=step, directory=directory, tokens=31 * step, time=1_800_000_000.0)
        assert store.commit(marker)
    return folder / directory


def whole_tensors(store: CheckpointStore, step: int) -> dict[str, torch.Tensor]:
    """Every tensor of a committed step, whole, whatever layout wrote it."""
    marker = store.marker(step)
    assert marker is not None
    metadata = TensorReader(store.folder, marker.directory).read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    load_alone(store.folder, marker.directory, tensors)
    return tensors
