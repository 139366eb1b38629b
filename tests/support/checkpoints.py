"""Checkpoint folders made by hand: everything but real tensors."""

from __future__ import annotations

import json
from pathlib import Path

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CommitMarker, Manifest
from footplate_trainer.checkpoint.record import Describer
from footplate_trainer.checkpoint.store import CheckpointStore, file_record
from tests.support.tiny import tiny_config


def write_checkpoint(folder: Path, step: int, *, commit: bool = True) -> Path:
    """A whole step directory of the tiny run in `folder`, written by generation 1.2 on two ranks."""
    config = tiny_config(folder / "shards", folder.parent)
    described = Describer(49_312, 2, config.training.global_batch_size, 0, {"threads": 1}).at(step, 31 * step)
    directory = folder / f"step-{step}.e1g2"
    directory.mkdir(parents=True)
    (directory / ".metadata").write_bytes(b"metadata")
    (directory / "__0_0.distcp").write_bytes(b"rows of rank 0" * step)
    (directory / layout.STATE_FILE).write_text(json.dumps(described.to_json()))
    (directory / layout.RUN_FILE).write_text(json.dumps(config.to_json()))
    manifest = Manifest(files=[file_record(path) for path in sorted(directory.iterdir())])
    (directory / layout.MANIFEST_FILE).write_text(json.dumps(manifest.to_json()))
    if commit:
        marker = CommitMarker(step=step, directory=directory.name, tokens=31 * step, time=1_800_000_000.0)
        assert CheckpointStore(folder).commit(marker)
    return directory
