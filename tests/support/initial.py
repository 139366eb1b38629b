"""A small model in a folder as transformers writes it, and a run that begins with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from footplate_contracts.runconfig import RunConfig, World
from footplate_trainer.__main__ import main
from footplate_trainer.manifest.run_file import read_run
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config, tiny_manifest
from tests.support.training import train


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
