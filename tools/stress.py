"""Repeats a test while two other processes want the processor: a race shows itself on a busy machine.

    make stress TEST=tests/component/test_ports.py::test_two_claims TIMES=30

Each repetition is a pytest of its own. The first failure ends it, with all that the test said.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

BURNERS = 2
# Ends by itself when whoever started it was killed.
_BURN = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(100_000))"


@contextmanager
def busy_processors(count: int = BURNERS) -> Iterator[None]:
    """Keeps `count` processors busy for the block."""
    command = [sys.executable, "-c", _BURN, str(os.getpid())]
    burners = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def repeat(test: str, times: int) -> bool:
    """Whether the test passed each of `times` times; prints how long each took, in seconds."""
    seconds: list[float] = []
    for number in range(1, times + 1):
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", test]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        seconds.append(time.monotonic() - started)
        print(f"{number:3} of {times}  {seconds[-1]:6.1f} s  exit status {done.returncode}", flush=True)
        if done.returncode != 0:
            print(done.stdout)
            return False
    fastest, slowest, middle = min(seconds), max(seconds), statistics.median(seconds)
    print(f"{times} of {times} passed in {fastest:.1f} to {slowest:.1f} s, median {middle:.1f} s")
    return True


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 when a repetition failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.stress", description=__doc__.splitlines()[0])
    parser.add_argument("test", help="a test's id, or a file or folder of tests")
    parser.add_argument("--times", type=int, default=30)
    options = parser.parse_args(arguments)
    with busy_processors():
        return 0 if repeat(options.test, options.times) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
