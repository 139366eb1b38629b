"""Prints how far each layout is from one process: losses, gradient norms and weights after five steps.

    python -m bench.trainer.layouts [NAME …]

One row for each layout and optimizer; differences are relative, and the bars
are 3e-6, 1e-5 and 1e-5. Exit status 1 when a row is beyond them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.support.layout_list import LAYOUTS, OPTIMIZERS, Layout
from tests.support.layouts import Trained, distance, train
from tests.support.tiny import pack_tiny

HEAD = "| layout | ranks | optimizer | loss | gradient norm | weights | loss falls by | seconds | |"


def main(names: list[str]) -> int:
    """Exit status 1 when a layout is another run."""
    unknown = sorted(set(names) - {layout.name for layout in LAYOUTS})
    if unknown:
        print(f"no layout {', '.join(unknown)}; there are {', '.join(layout.name for layout in LAYOUTS)}")
        return 2
    references: dict[tuple[tuple[str, ...], str], Trained] = {}
    all_small = True
    print(f"{HEAD}\n|{'---|' * 9}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        shards = pack_tiny(Path(folder))
        for layout in LAYOUTS:
            if names and layout.name not in names:
                continue
            for optimizer, overrides in OPTIMIZERS.items():
                key = (layout.model, optimizer)
                if key not in references:
                    alone = Layout("alone", 1, {}, layout.model)
                    references[key] = train(alone, overrides, shards, Path(folder) / "alone")
                begun = time.monotonic()
                trained = train(layout, overrides, shards, Path(folder) / layout.name)
                found = distance(trained, references[key])
                all_small &= found.is_small
                print(
                    f"| {layout.name} | {layout.ranks} | {optimizer} | {found.loss:.1e} | {found.norm:.1e} "
                    f"| {found.parameters:.1e} | {found.fall:.2f} | {time.monotonic() - begun:.1f} "
                    f"| {'same' if found.is_small else 'ANOTHER RUN'} |",
                    flush=True,
                )
    return 0 if all_small else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
