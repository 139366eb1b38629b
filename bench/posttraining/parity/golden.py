"""What TRL did, in files that tests compare with: one for stages, one for rollouts, one for formulas."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from bench.posttraining.parity.oracle import ROOT, Run, Seen
from torch import Tensor

FOLDER: Final = ROOT / "tests" / "golden" / "trl"
_PARTS: Final = 16
_SUMS: Final = 8  # of each
_DIGITS: Final = 9
_LOGGED: Final = ("accuracy", "margin")  # of what TRL logs, besides losses and norms


@dataclass(frozen=True)
class Recorded:
    """What a run did, step by step, as `oracle.Seen` has it, with sums in the place of weights."""

    asked: str
    losses: list[float]
    gradient_norms: list[float]
    weights: list[list[float]]  # after each step, or after the last one; none where they do not judge
    logs: list[dict[str, float]]


def sums(weights: Mapping[str, Tensor]) -> list[float]:
    """Sums of the weights of each part, with signs that each sum draws anew.

    A sum differs by as much as the weight that differs most with a probability of at least 1/2: whatever the
    others add, one of its two signs adds to it. Parts keep the rounding of many weights small.
    """
    whole = torch.cat([weights[name].detach().flatten().to(torch.float64) for name in sorted(weights)])
    drawn = torch.Generator().manual_seed(0)
    found: list[float] = []
    for part in whole.chunk(_PARTS):
        signs = 2 * torch.randint(0, 2, (_SUMS, len(part)), generator=drawn).to(torch.float64) - 1
        found += [round(number, _DIGITS) for number in (signs @ part).tolist()]
    return found


def recorded(run: Run, seen: Seen, weights: list[list[float]]) -> Recorded:
    """What is kept of a run."""
    logs = [{name: row[name] for name in _LOGGED if name in row} for row in seen.logs]
    return Recorded(_digest(run), seen.losses, seen.gradient_norms, weights, logs)


def write(kind: str, answers: Mapping[str, Recorded]) -> None:
    """The file of a kind: stages, rollouts or formulas."""
    FOLDER.mkdir(exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(asdict(told))}" for name, told in sorted(answers.items())]
    (FOLDER / f"{kind}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read(kind: str, name: str, run: Run) -> Recorded:
    """What TRL did when it was asked for `run`.

    Raises:
        AssertionError: it was asked for another one.
    """
    told = Recorded(**json.loads((FOLDER / f"{kind}.json").read_text())[name])
    assert told.asked == _digest(run), f"{name} is another run: python -m bench.posttraining.parity --record"
    return told


def _digest(run: Run) -> str:
    """Of what TRL is asked for, with the names of folders in the place of their paths."""

    def named(path: Any) -> str:
        return Path(path).name

    asked = json.dumps(asdict(run), default=named, sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
