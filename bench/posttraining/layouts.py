"""How far each layout of a stage is from one process: losses, gradient norms and weights of five steps.

    .venv/bin/python -m bench.posttraining.layouts [KIND …]

One row for each kind, family and layout; a KIND (sft, reward, sigmoid, …, grpo, ppo)
chooses its rows. The bars are 3e-6, 1e-5 and 1e-5; differences are relative, of grpo
and ppo those of losses and weights absolute, and their answers equal token for token.
What else a step tells, such as an accuracy, is within 1e-4; the last cell names what is
not. Exit status 1 when a row is beyond them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support import rollout_layouts, stage_layouts
from tests.support.rollout_layouts import RolloutLayouts
from tests.support.stage_layouts import StageLayouts

HEAD: Final = "| what is learnt | family | layout | ranks | loss | gradient norm | weights | seconds | |"
KINDS: Final = (*stage_layouts.KINDS, *rollout_layouts.STAGES)


def main(kinds: list[str]) -> int:
    """Exit status 1 when a layout is another training."""
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        print(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
        return 2
    all_small = True
    print(f"{HEAD}\n|{'---|' * 9}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        begun = time.monotonic()
        for row, is_small, besides in _rows(kinds or list(KINDS), Path(temporary)):
            all_small &= is_small
            ended = time.monotonic()
            verdict = " ".join(("same" if is_small else "ANOTHER TRAINING", *besides))
            print(f"{row} | {ended - begun:.1f} | {verdict} |", flush=True)
            begun = ended
    print("| all of them | | on GPUs | | not run | not run | not run | | |")
    return 0 if all_small else 1


def _rows(kinds: list[str], root: Path) -> Iterator[tuple[str, bool, tuple[str, ...]]]:
    """The first cells of each row, whether its differences are small, and which means are others."""
    read, sampled = (root / name for name in ("read", "sampled"))
    sampled.mkdir()
    stages = StageLayouts(read)
    for kind, family, name in (row for row in stage_layouts.ROWS if row[0] in kinds):
        found = stages.apart(kind, family, name, root / f"{kind}-{family}-{name}")
        ranks = stage_layouts.LISTED[name].ranks
        yield (
            (
                f"| {kind} | {family} | {name} | {ranks} | {found.loss:.1e} | {found.norm:.1e} "
                f"| {found.parameters:.1e}"
            ),
            found.is_small,
            found.means,
        )
    if not set(kinds) & set(rollout_layouts.STAGES):
        return
    rollouts = RolloutLayouts(sampled)
    for stage, family, name in (row for row in rollout_layouts.ROWS if row[0] in kinds):
        apart = rollouts.apart(stage, family, name, root / f"{stage}-{family}-{name}")
        ranks, _ = rollout_layouts.LAYOUTS[name]
        yield (
            (
                f"| {stage} | {family} | {name} | {ranks} | {apart.loss:.1e} | {apart.norm:.1e} "
                f"| {apart.weights:.1e}"
            ),
            apart.is_small,
            (),
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
