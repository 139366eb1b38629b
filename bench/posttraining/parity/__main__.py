"""How far each stage is from the same training by others: losses, gradient norms and weights of five steps.

    .venv/bin/python -m bench.posttraining.parity [NAME …]
    .venv/bin/python -m bench.posttraining.parity --record

One row for each kind and optimizer; a NAME chooses those that begin with it. Losses and
weights are absolute, norms relative; the bars are 2e-6, 1e-5 and, with SGD, 1e-5. Exit
status 1 when a row is beyond them. The others are TRL, a package of the tests that `make venv`
has, and of stage ppo, which TRL no longer has, the loop of `textbook`. With --record what
TRL does becomes the golden files that the tests compare our stages and formulas with.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.posttraining.parity import comparison, formula_cases, golden, ppo, rollouts, stages
from bench.posttraining.parity.comparison import Compared
from bench.posttraining.parity.oracle import Run, Seen, seen
from safetensors.torch import load_file

HEAD: Final = "| training | optimizer | loss | gradient norm | weights | seconds | |"


def main(chosen: list[str]) -> int:
    """Exit status 1 when a stage is another training."""
    if chosen == ["--record"]:
        record()
        return 0
    every = (*stages.NAMES, *rollouts.NAMES, *ppo.NAMES)
    names = [name for name in every if not chosen or name.startswith(tuple(chosen))]
    if not names:
        print(f"no training begins with {', '.join(chosen)}; there are {', '.join(every)}")
        return 2
    all_small = True
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        runs = _runs(names, root)
        told = seen(runs, root) if runs else {}
        print(f"{HEAD}\n|{'---|' * 7}", flush=True)
        for name in names:
            begun = time.monotonic()
            found = _compared(name, told, root).found
            all_small &= found.are_small
            kind, _, optimizer = name.rpartition("-")
            weights = "–" if found.weights is None else f"{found.weights:.1e}"
            print(
                f"| {kind} | {optimizer} | {found.loss:.1e} | {found.norm:.1e} | {weights} "
                f"| {time.monotonic() - begun:.1f} | {'same' if found.are_small else 'ANOTHER TRAINING'} |",
                flush=True,
            )
    print("| all of them on GPUs | | not run | not run | not run | | |")
    return 0 if all_small else 1


def record() -> None:
    """Write the golden files anew."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        kinds = {
            "stages": stages.runs_of(stages.NAMES, root),
            "rollouts": rollouts.runs_of(rollouts.NAMES, root),
            "formulas": formula_cases.runs_of(root),
        }
        for kind, runs in kinds.items():
            folder = root / kind
            folder.mkdir()
            answers = {}
            for name, told in seen(runs, folder).items():
                files = told.weights if kind == "formulas" else told.weights[-1:]
                if name.endswith("-adamw"):
                    files = []  # there they do not judge
                weights = [golden.sums(load_file(str(file))) for file in files]
                answers[name] = golden.recorded(runs[name], told, weights)
            golden.write(kind, answers)


def _runs(names: list[str], root: Path) -> dict[str, Run]:
    """What TRL is asked for."""
    read = [name for name in names if name in stages.NAMES]
    sampled = [name for name in names if name in rollouts.NAMES]
    return {**stages.runs_of(read, root), **rollouts.runs_of(sampled, root)}


def _compared(name: str, told: Mapping[str, Seen], root: Path) -> Compared:
    """Ours of that name, in a folder of `root`; `told`: what TRL did, by name."""
    folder = root / name
    folder.mkdir()
    if name in ppo.NAMES:
        return ppo.compared(name, root, folder)
    if name in rollouts.NAMES:
        return rollouts.compared(name, told[name], root / "lm_head", folder)
    head = stages.case_of(name)[0].head
    return comparison.compared(name, told[name], root / f"stage-{head}", folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
