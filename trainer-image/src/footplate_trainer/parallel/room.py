"""How much memory a rank can still have, on its device or in its container.

On a GPU that is what the driver has left, and what torch's allocator has reserved and uses no more. On a CPU
it is this rank's share of what the container may still take: its limit (control groups, version 2) less what
it uses and could not drop, or what the machine has available, whichever is less; and what this process has
freed and kept. Numbers of a moment: another program may take it in the next one, or give it back. What a rank
could have at most, if no other program had any, is told apart: only less than that is never enough.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final, NamedTuple

import torch

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMINFO: Final = Path("/proc/meminfo")
_STATUS: Final = Path("/proc/self/status")
_NO_LIMIT: Final = "max"


class Memory(NamedTuple):
    """Bytes of a rank beyond what it uses."""

    left: int  # at this moment
    most: int  # where nobody but this run's ranks has any


class _Heap(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def memory_of(device: torch.device, ranks: int) -> Memory:
    """Of a rank, where `ranks` processes like this one share the container; each has its GPU to itself."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_allocated(device)
        return Memory(free + torch.cuda.memory_reserved(device) - used, total - used)
    kept = _kept_by_heap()
    left, most = container_room() // ranks, container_size() // ranks
    return Memory(left + kept, most - anonymous_memory() + kept)


def container_room(cgroups: Path = _CGROUPS, meminfo: Path = _MEMINFO) -> int:
    """Bytes that the processes of this container can take together."""
    available = 1024 * _number(meminfo, "MemAvailable:")
    if (most := _limit(cgroups)) is None:
        return available
    used = int((cgroups / "memory.current").read_text())
    cached = _number(cgroups / "memory.stat", "inactive_file")  # of files: the kernel drops it first
    return max(0, min(available, most - used + cached))


def container_size(cgroups: Path = _CGROUPS, meminfo: Path = _MEMINFO) -> int:
    """Bytes that the processes of this container could have together, were they alone on the machine."""
    total, most = 1024 * _number(meminfo, "MemTotal:"), _limit(cgroups)
    return total if most is None else min(total, most)


def anonymous_memory(status: Path = _STATUS) -> int:
    """Bytes that this process has written and no file holds."""
    return 1024 * _number(status, "RssAnon:")


def _limit(cgroups: Path) -> int | None:
    limit = cgroups / "memory.max"
    if not limit.is_file() or (most := limit.read_text().strip()) == _NO_LIMIT:
        return None
    return int(most)


def _number(file: Path, name: str) -> int:
    """Of the line that begins with `name`; 0 where there is none."""
    for line in file.read_text().splitlines():
        words = line.split()
        if words and words[0] == name:
            return int(words[1])
    return 0


def _kept_by_heap() -> int:
    """Bytes that were freed and not handed back; 0 where the allocator is another than glibc's."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Heap
    return int(mallinfo().fordblks)
