"""For how long an agent that imports torch is silent: as a Python import does it, and as our agent does.

    python -m bench.elastic.imports [--agents N] [--times N]

N interpreters import what an agent imports, all at once, while a thread of each wants to run fifty times
a second, as one would that speaks to a coordinator. Printed is the longest that any of them had to wait;
the two ways take turns.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import threading
import time
from typing import Final

from footplate_elastic.agent import torch_libraries

PACE: Final = 0.02  # seconds between two words


def main() -> None:
    """Print both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", type=int, default=16, help="that start at once (default %(default)s)")
    parser.add_argument("--times", type=int, default=5, help="of each way (default %(default)s)")
    parser.add_argument("--one", choices=["plain", "loaded"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(_silence(loaded=arguments.one == "loaded"))
        return
    longest: dict[str, list[float]] = {"plain": [], "loaded": []}
    for _ in range(arguments.times):
        for way, seen in longest.items():
            seen.append(_together(way, arguments.agents))
    for way, seen in longest.items():
        print(f"{way:<7} silent for {statistics.median(seen):.2f} s ({min(seen):.2f} to {max(seen):.2f})")
    ratio = statistics.median(longest["plain"]) / statistics.median(longest["loaded"])
    print(f"ratio   {ratio:.1f}")


def _together(way: str, agents: int) -> float:
    """The longest silence of so many interpreters that start at once."""
    command = [sys.executable, "-m", "bench.elastic.imports", "--one", way]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(agents)]
    return max(float(process.communicate()[0]) for process in started)


def _silence(loaded: bool) -> float:
    """The longest silence of a thread of this process while another one imports."""
    over, waits = threading.Event(), [0.0]

    def speak() -> None:
        last = time.monotonic()
        while not over.wait(PACE):
            now = time.monotonic()
            waits.append(now - last)
            last = now

    speaker = threading.Thread(target=speak)
    speaker.start()
    gc.disable()  # as the agent does
    if loaded:
        torch_libraries.load()
    import torch.distributed.elastic.agent.server.api  # noqa: F401

    over.set()
    speaker.join()
    return max(waits)


if __name__ == "__main__":
    main()
