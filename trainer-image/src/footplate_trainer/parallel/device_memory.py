"""Memory that a rank can still allocate, on its device or in its container.

On a GPU that is the driver's free memory and what torch's allocator has reserved but does not use. On a CPU
it is this rank's share of what the container may still allocate: its limit (control groups, version 2) less
what it uses and could not drop, or the machine's available memory, whichever is less; and what this process
has freed and not returned. The numbers may change in the next moment, as other programs allocate or free.
The most that a rank could have if no other program had any is reported separately: only a need above that
can never be met.
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


class AvailableMemory(NamedTuple):
    """Bytes that a rank can have beyond its current use."""

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


def get_available_memory(device: torch.device, ranks: int) -> AvailableMemory:
    """Return a rank's memory; `ranks` such processes share the container, and each has a GPU to itself."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_allocated(device)
        return AvailableMemory(free + torch.cuda.memory_reserved(device) - used, total - used)
    kept = _kept_by_heap()
    left, most = container_room() // ranks, container_size() // ranks
    return AvailableMemory(left + kept, most - anonymous_memory() + kept)


def container_room(cgroups: Path = _CGROUPS, meminfo: Path = _MEMINFO) -> int:
    """Return the bytes that the container's processes can still allocate together."""
    available = 1024 * _number(meminfo, "MemAvailable:")
    if (most := _limit(cgroups)) is None:
        return available
    used = int((cgroups / "memory.current").read_text())
    cached = _number(cgroups / "memory.stat", "inactive_file")  # of files: the kernel drops it first
    return max(0, min(available, most - used + cached))


def container_size(cgroups: Path = _CGROUPS, meminfo: Path = _MEMINFO) -> int:
    """Return the bytes that the container's processes could have together, if alone on the machine."""
    total, most = 1024 * _number(meminfo, "MemTotal:"), _limit(cgroups)
    return total if most is None else min(total, most)


def anonymous_memory(status: Path = _STATUS) -> int:
    """Return the bytes of this process's resident memory that no file backs."""
    return 1024 * _number(status, "RssAnon:")


def _limit(cgroups: Path) -> int | None:
    limit = cgroups / "memory.max"
    if not limit.is_file() or (most := limit.read_text().strip()) == _NO_LIMIT:
        return None
    return int(most)


def _number(file: Path, name: str) -> int:
    """Return the number in the line that begins with `name`; 0 without such a line."""
    for line in file.read_text().splitlines():
        words = line.split()
        if words and words[0] == name:
            return int(words[1])
    return 0


def _kept_by_heap() -> int:
    """Return the bytes freed and not returned to the kernel; 0 with an allocator that lacks `mallinfo2`."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Heap
    return int(mallinfo().fordblks)
