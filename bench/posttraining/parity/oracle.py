"""TRL as an oracle: what its trainers do with the same model, rows and settings, told step by step.

Runs go through one subprocess: to import TRL's trainers takes seconds, a run of some steps tenths of one. The
subprocess (`process`) gets JSON and gives JSON, and beside it the weights after each step; it reaches no
network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

ROOT: Final = Path(__file__).resolve().parents[3]
# Imports allocate much and free nothing: collections would cost a sixth of the time.
_PROGRAM: Final = "import gc; gc.disable(); from bench.posttraining.parity.process import main; main()"
_OFFLINE: Final = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


@dataclass(frozen=True)
class Rollout:
    """Answers that GRPO is given instead of sampling: one of each row, siblings adjacent."""

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]
    rewards: Sequence[float]


@dataclass(frozen=True)
class Run:
    """A training by TRL, on one process, with micro-batches in the order of `rows`.

    `trainer` is sft, reward, dpo, kto, orpo, simpo or grpo; `rows` are of the shape that it takes, and
    `settings` are members of its config, beside those that all runs have (`process.COMMON`). `model` is a
    folder, and so is a `reference` that is not the model. `adapters` are members of peft's LoraConfig.
    """

    trainer: str
    model: Path
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    reference: Path | None = None
    adapters: Mapping[str, Any] | None = None
    rollouts: Sequence[Rollout] = ()  # one for each time that it would sample


@dataclass(frozen=True)
class Seen:
    """What a run did, step by step."""

    losses: list[float]
    gradient_norms: list[float]  # before clipping
    weights: list[Path]  # .safetensors after each step; of adapters alone, if there are any
    logs: list[dict[str, float]]  # all that TRL logged


def seen(runs: Mapping[str, Run], root: Path) -> dict[str, Seen]:
    """What TRL does with each run, by name, in a new folder of `root`.

    Raises:
        AssertionError: TRL failed; its output is the message.
    """
    folder = root / "trl"
    folder.mkdir()
    asked = json.dumps({name: asdict(run) for name, run in runs.items()}, default=str, sort_keys=True)
    (folder / "runs.json").write_text(asked)
    environment = {**os.environ, **_OFFLINE, "HF_HOME": str(folder / "home")}
    command = [sys.executable, "-c", _PROGRAM, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    answers = json.loads((folder / "answers.json").read_text())
    return {
        name: Seen(**{**told, "weights": [Path(file) for file in told["weights"]]})
        for name, told in answers.items()
    }


def lower_adapter(name: str, shape: Sequence[int]) -> Tensor:
    """What LoRA's A of that name begins with; B begins with 0."""
    drawn = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return 0.1 * torch.randn(tuple(shape), generator=drawn)
