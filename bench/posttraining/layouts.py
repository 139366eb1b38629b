"""How far each layout of a stage is from one process: losses, gradient norms and weights of five steps.

    .venv/bin/python -m bench.posttraining.layouts [KIND …]

One row for each kind, family and layout; a KIND (sft, reward, sigmoid, …) chooses its
rows. Differences are relative; the bars are 3e-6, 1e-5 and 1e-5. Exit status 1 when a
row is beyond them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.support.stage_layouts import KINDS, LISTED, ROWS, StageLayouts

HEAD: Final = "| what is learnt | family | layout | ranks | loss | gradient norm | weights | seconds | |"


def main(kinds: list[str]) -> int:
    """Exit status 1 when a layout is another training."""
    unknown = sorted(set(kinds) - KINDS.keys())
    if unknown:
        print(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
        return 2
    all_small = True
    print(f"{HEAD}\n|{'---|' * 9}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        stages = StageLayouts(root / "alone")
        for kind, family, name in (row for row in ROWS if not kinds or row[0] in kinds):
            begun = time.monotonic()
            found = stages.apart(kind, family, name, root / f"{kind}-{family}-{name}")
            all_small &= found.is_small
            print(
                f"| {kind} | {family} | {name} | {LISTED[name].ranks} | {found.loss:.1e} | {found.norm:.1e} "
                f"| {found.parameters:.1e} | {time.monotonic() - begun:.1f} "
                f"| {'same' if found.is_small else 'ANOTHER TRAINING'} |",
                flush=True,
            )
    print("| all of them | | on GPUs | | not run | not run | not run | | |")
    return 0 if all_small else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
