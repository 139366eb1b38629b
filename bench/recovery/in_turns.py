"""Start and recovery of a run on pods, by this checkout and by another one, in turns on one cluster.

    python bench/recovery/in_turns.py OTHER [--turns 5]     OTHER: a checkout with its environment

Each turn installs either checkout over the other and runs its bench/recovery/on_cluster.py with one fault of
each kind. Prints the medians, and the ratio of this checkout's to the other's; ends with 1 where a bar is
missed.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BAR: Final = 1.05
FIGURES: Final[Mapping[str, str]] = {
    "created -> first step": r"first training step: ([\d.]+) s",
    "worker deleted -> stepping": r"worker deleted[^\0]*?total +([\d.]+)",
}


def measure(checkout: Path) -> dict[str, float]:
    """Install `checkout`, and return its figures, seconds."""
    subprocess.run(["make", "install"], cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    command = [".venv/bin/python", "bench/recovery/on_cluster.py", "--faults", "1"]
    said = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {name: re.search(pattern, said) for name, pattern in FIGURES.items()}
    return {name: float(match[1]) for name, match in found.items() if match is not None}


def main() -> int:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("other", type=Path, help="the checkout to compare with")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    checkouts = {"this": ROOT, "other": options.other.resolve()}
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for turn in range(options.turns):
        for name, checkout in checkouts.items():
            seen[name].append(measure(checkout))
            print(f"turn {turn + 1}, {name}: {seen[name][-1]}", flush=True)
    missed = False
    for figure in FIGURES:
        ours, theirs = (statistics.median(turn[figure] for turn in seen[name]) for name in checkouts)
        missed |= ours > BAR * theirs
        print(f"{figure}: {ours:.2f} s, other {theirs:.2f} s, ratio {ours / theirs:.3f} (bar {BAR})")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
