"""What shows of stages share: pack, train and export as a user does, and read the rows."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, Final

import torch

from footplate_trainer.__main__ import main

VOCABULARY: Final = 4096
# 2 million numbers: rows of two cores pass in milliseconds.
MODEL: Final[dict[str, Any]] = {
    "layers": 2,
    "hiddenSize": 128,
    "attentionHeads": 4,
    "keyValueHeads": 4,
    "feedForwardSize": 352,
    "vocabularySize": VOCABULARY,
    "contextLength": 256,
}


@dataclass(frozen=True)
class Trained:
    """A run that ended well."""

    folder: Path  # of the model, as an export
    checkpoints: Path
    rows: list[dict[str, Any]]
    seconds: float  # of the machine's time, all of the command
    cpu_seconds: float

    def last(self, name: str) -> float:
        """The newest `name` in values of the rows."""
        return float(next(row["values"][name] for row in reversed(self.rows) if name in row["values"]))


def show_parser(description: str | None) -> argparse.ArgumentParser:
    """Of the command of a show, with what all have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="for data and models (default: one that goes at the end)")
    parser.add_argument("--smoke", action="store_true", help="some data and steps, to see that it runs")
    return parser


@contextlib.contextmanager
def opened_folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder that `arguments` name, or one that goes at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def command(*words: object) -> None:
    """One of the trainer's; RuntimeError unless it succeeds. What it prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        code = main([str(word) for word in words])
    if code:
        raise RuntimeError(f"footplate-trainer {' '.join(map(str, words))} ended with {code}")


def run_stage(folder: Path, name: str, spec: Mapping[str, Any]) -> Trained:
    """Train the run `name` of `spec`, export its newest checkpoint, and read its rows."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    checkpoints = folder / name / "checkpoints"
    steps = spec["training"]["steps"]
    manifest = {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            **spec,
            "compute": {"profile": "local-cpu"},
            "checkpoint": {"uri": str(checkpoints), "everySteps": steps},
        },
    }
    checkpoints.parent.mkdir()
    file = checkpoints.parent / "run.json"
    file.write_text(json.dumps(manifest))
    begun, cpu = time.monotonic(), time.process_time()
    command("train", file, "--metrics", checkpoints.parent / "rows.jsonl")
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    model = checkpoints.parent / "model"
    command("export", checkpoints, model)
    rows = [json.loads(line) for line in (checkpoints.parent / "rows.jsonl").read_text().splitlines()]
    return Trained(model, checkpoints, rows, seconds, cpu)


def training(steps: int, batch: int, rate: float, **more: Any) -> dict[str, Any]:
    """`spec.training`: AdamW, a short warm-up, then down to a tenth by a cosine."""
    return {
        "steps": steps,
        "globalBatchSize": batch,
        "microBatchSize": batch,
        "optimizer": {"name": "adamw", "learningRate": rate},
        "schedule": {"warmupSteps": min(20, steps // 4)},
        "logEverySteps": max(1, steps // 10),
        **more,
    }


def mcnemar(won: int, lost: int) -> float:
    """Exact p, two-sided, of `won` against `lost` among what differs."""
    differing = won + lost
    tail = sum(comb(differing, count) for count in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**differing)


def sign_test(before: Sequence[float], after: Sequence[float]) -> tuple[int, int, float]:
    """How many of what is paired rose, how many fell, and the exact p of that."""
    pairs = list(zip(before, after, strict=True))
    rose = sum(later > earlier for earlier, later in pairs)
    fell = sum(later < earlier for earlier, later in pairs)
    return rose, fell, mcnemar(rose, fell)
