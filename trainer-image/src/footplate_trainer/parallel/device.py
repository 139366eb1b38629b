"""What is asked of a device in another way on each type of it."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import torch
from torch._C import _distributed_c10d as c10d

MEMORY_EVENTS: Final = 1_000_000  # of the allocator that are kept
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def name(device: torch.device) -> str:
    """The name that its vendor gave it; "cpu" for the host."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> int:
    """Bytes in use at the worst moment so far: of the device's allocator, or resident ones on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux says KiB


def keep_freed_memory(device: torch.device) -> None:
    """On a CPU, let the process keep what tensors give back, and not the kernel.

    A step asks for the buffers that the step before gave back, and the kernel would hand them out anew,
    zeroed, 4 KiB at a time: 300,000 page faults for a small model, a tenth of its step and more where
    memory is short. Nothing happens where the allocator is another than glibc's.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if device.type == "cpu" and mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never


def event_maker(device: torch.device) -> Callable[[], torch.cuda.Event] | None:
    """Makes marks for the device's stream; None where it does not run behind its host."""
    return partial(torch.cuda.Event, enable_timing=True) if device.type == "cuda" else None


def record_memory_history() -> None:
    """Have the allocator remember who asked for what, from now on."""
    torch.cuda.memory._record_memory_history(max_entries=MEMORY_EVENTS)


def dump_memory_history(path: Path) -> None:
    """Write what it remembers for https://pytorch.org/memory_viz, and let it forget."""
    torch.cuda.memory._dump_snapshot(str(path))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.cuda.memory._record_memory_history(enabled=None)


def dump_flight_recorder(path: Path) -> None:
    """Write the collectives that NCCL has seen last, as torch's flight-recorder tools read them."""
    path.write_bytes(c10d._dump_nccl_trace())  # type: ignore[attr-defined]  # its stubs leave it out
