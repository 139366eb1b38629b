"""CPU time of the decisions of operator and coordinator.

    python -m bench.controlplane --unit                          this revision
    python -m bench.controlplane --unit --before DIRECTORY       beside a checkout of an earlier one
    python -m bench.controlplane --unit --smoke                  64 pods or agents

Each figure is the best of several tries in one thread, without sockets. An earlier revision is measured by
the same scenarios in the same minute, since CPU time, too, grows on a machine that is busy.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from bench.controlplane import coordinator_rows, operator_rows
from bench.controlplane.rows import SIZES, Row

TRIES = 15  # the best one counts
ROWS = (*operator_rows.ROWS, *coordinator_rows.ROWS)


def measured(row: Row, sizes: tuple[int, ...], tries: int) -> list[float]:
    """The seconds of one operation at each size."""
    return [min(row.cost(size) for _ in range(tries)) / row.share(size) for size in sizes]


def measured_before(checkout: Path, number: int, tries: int) -> list[float]:
    """What row `number` costs with the sources of `checkout`."""
    sources = [str(path) for path in sorted(checkout.glob("*/src"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sources)}
    command = [sys.executable, "-m", "bench.controlplane", "--row", str(number), "--tries", str(tries)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds: list[float] = json.loads(ended.stdout)
    return seconds


def shown(seconds: list[float]) -> str:
    """Seconds by size, as milliseconds."""
    return " / ".join(f"{1e3 * value:.3g}" for value in seconds)


def main() -> int:
    """Print the table; 1 where a figure is above its bar."""
    parser = argparse.ArgumentParser(prog="bench.controlplane", description=__doc__)
    parser.add_argument("--unit", action="store_true", help="the table")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier revision")
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable()
    if arguments.row is not None:
        print(json.dumps(measured(ROWS[arguments.row], SIZES, arguments.tries)))
        return 0
    sizes = (64,) if arguments.smoke else SIZES
    before = arguments.before is not None
    print(f"| CPU ms with {' / '.join(map(str, sizes))} |{' before |' if before else ''} now | bar |")
    print("|---|---|---|" + "---|" * before)
    missed = False
    for number, row in enumerate(ROWS):
        earlier = shown(measured_before(arguments.before, number, arguments.tries)) if before else None
        seconds = measured(row, sizes, arguments.tries)
        bars = [] if arguments.smoke else list(zip(seconds, row.bar, strict=True))
        missed = missed or any(bar is not None and value > bar for value, bar in bars)
        bar = " / ".join("–" if bar is None else f"{1e3 * bar:g}" for bar in row.bar) if any(row.bar) else "–"
        print(
            "|",
            " | ".join(part for part in (row.what, earlier, shown(seconds), bar) if part),
            "|",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
