"""A run so small that a step takes milliseconds, with documents of uneven length."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from footplate_contracts.runconfig import RunConfig, World
from footplate_trainer.data.pack import pack
from footplate_trainer.manifest.run_file import read_run

VOCABULARY = 384
_SHARDS, _CHECKPOINTS = Path("/shards"), Path("/checkpoints")


def pack_tiny(folder: Path) -> Path:
    """Shards of about 9,000 tokens in 60 documents of 5 to 60 words."""
    rng = random.Random(7)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 6))) for _ in range(60)]
    documents = [" ".join(rng.choices(words, k=rng.randint(5, 60))) for _ in range(60)]
    text = folder / "text.jsonl"
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    pack([str(text)], folder / "shards", vocabulary_size=VOCABULARY)
    return folder / "shards"


def tiny_manifest(shards: Path, checkpoints: Path) -> dict[str, Any]:
    """A TrainingRun over `shards`: 2 layers x 32, 8 sequences of 32 tokens a step."""
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "tiny"},
        "spec": {
            "model": {
                "layers": 2,
                "hiddenSize": 32,
                "attentionHeads": 4,
                "keyValueHeads": 2,
                "vocabularySize": VOCABULARY,
                "contextLength": 32,
            },
            "data": {"uri": str(shards), "seed": 3},
            "training": {
                "steps": 6,
                "globalBatchSize": 8,
                "microBatchSize": 2,
                "optimizer": {"name": "adamw", "learningRate": 0.01},
                "schedule": {"warmupSteps": 2},
                "logEverySteps": 1000,
            },
            "compute": {"profile": "local-cpu"},
            "checkpoint": {"uri": str(checkpoints), "everySteps": 1000},
        },
    }


def tiny_config(shards: Path, folder: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The tiny run, resolved; its checkpoints go to `folder`/checkpoints."""
    config = _resolved(tuple(overrides))
    places = (
        ("data", config.data, _SHARDS, shards),
        ("checkpoint", config.checkpoint, _CHECKPOINTS, folder / "checkpoints"),
    )
    moved = {
        name: part.model_copy(update={"uri": str(place)})
        for name, part, placeholder, place in places
        if part.uri == str(placeholder)  # else an override says otherwise
    }
    return config.model_copy(update=moved)


@cache
def _resolved(overrides: tuple[str, ...]) -> RunConfig:
    """The tiny run at places that are yet to be filled in: its rules are checked once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        path.write_text(json.dumps(tiny_manifest(_SHARDS, _CHECKPOINTS)))
        return read_run(path, overrides).config(World())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
