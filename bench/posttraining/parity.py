"""How far each stage is from the same training by TRL: losses, gradient norms and weights of five steps.

    .venv/bin/python -m bench.posttraining.parity [NAME …]

One row for each kind and optimizer; a NAME chooses those that begin with it. Losses and
weights are absolute, norms relative; the bars are 2e-6, 1e-5 and, with SGD, 1e-5. Exit
status 1 when a row is beyond them. TRL is a package of the tests: `make venv` has it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.support.parity import compared
from tests.support.trl_oracle import seen
from tests.support.trl_stages import NAMES, case_of, models, runs_of

HEAD: Final = "| training | optimizer | loss | gradient norm | weights | seconds | |"


def main(chosen: list[str]) -> int:
    """Exit status 1 when a stage is another training."""
    names = [name for name in NAMES if not chosen or name.startswith(tuple(chosen))]
    if not names:
        print(f"no training begins with {', '.join(chosen)}; there are {', '.join(NAMES)}")
        return 2
    all_small = True
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        told = seen(runs_of(names, root), root)
        print(f"{HEAD}\n|{'---|' * 7}", flush=True)
        for name in names:
            folder, model = root / name, models(root)[case_of(name)[0].model]
            folder.mkdir()
            begun = time.monotonic()
            found = compared(name, told[name], model, folder).found
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
