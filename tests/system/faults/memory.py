"""Faults of memory: a container that has none left, and a rank in which some of it went bad."""

from __future__ import annotations

import math
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cluster.machine import cgroups
from cluster.native.pods import Process
from tests.support import processes
from tests.support.runs import Json

# Of runs.tiny, from which the tables follow.
_HEAD_SIZE: Final = 64 // 4
_THETA: Final = 10_000.0
_POSITION: Final = 1  # of the row that is looked for: that of position 0 is ones and zeros
_NAN: Final = struct.pack("f", math.nan)

_ENTER: Final = 'echo $$ > "$1" && echo 1000 > /proc/self/oom_score_adj && shift && exec "$@"'
_HOG: Final = "held = []\nwhile True: held.append(bytearray(2**26))"


def exhaust(pod: Json) -> None:
    """Let the kernel kill for memory in the pod's container: whoever asks for more than there is.

    What it kills is a program of ours, the first in its order. Whom a cell means is killed after that, and
    nobody who looks at the container's counts can tell the difference.
    """
    [main] = processes.main(pod)
    procs = _memory_group(main) / "cgroup.procs"
    done = subprocess.run(["sh", "-c", _ENTER, "sh", procs, sys.executable, "-c", _HOG], check=False)
    assert done.returncode == -9, f"the kernel did not kill for memory, but it ended with {done.returncode}"


def _memory_group(process: Process) -> Path:
    """The control group that counts the memory of the process's container."""
    rows = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    by_controller = {row.split(":")[1]: row.split(":")[2] for row in rows}
    if "memory" in by_controller:
        return cgroups.ROOT / "memory" / by_controller["memory"].lstrip("/")
    return cgroups.ROOT / by_controller[""].lstrip("/")


def spoil_rotary_tables(rank: Process) -> None:
    """The table of positions in the rank's memory is no number any more: nor is any loss after it."""
    cosines = [math.cos(_POSITION * _THETA ** (-column / _HEAD_SIZE)) for column in range(0, _HEAD_SIZE, 2)]
    row = struct.pack(f"{_HEAD_SIZE}f", *cosines, *cosines)
    found = 0
    with Path(f"/proc/{rank.pid}/mem").open("r+b", buffering=0) as memory:
        for start, end in _writable(rank):
            memory.seek(start)
            try:
                content = memory.read(end - start)
            except OSError:
                continue  # a mapping that has no memory behind it
            for match in re.finditer(re.escape(row), content):
                memory.seek(start + match.start())
                memory.write(_NAN * _HEAD_SIZE)
                found += 1
    assert found, "no table of positions was found in the rank's memory"


def _writable(rank: Process) -> Iterator[tuple[int, int]]:
    """Where the rank's own memory is: first and last address of each mapping."""
    for line in Path(f"/proc/{rank.pid}/maps").read_text().splitlines():
        addresses, rights, *rest = line.split()
        if rights.startswith("rw-p") and (
            len(rest) < 4 or rest[3] == "[heap]" or rest[3].startswith("[anon")
        ):
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield start, end
