"""Operations that differ between device types."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C import _distributed_c10d as c10d
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy

from footplate_contracts.v1alpha1.parallelism import Offload

MEMORY_EVENTS: Final = 1_000_000  # of the allocator that are kept
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def device_name(device: torch.device) -> str:
    """Return the vendor's name of the device; "cpu" for the host."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> int:
    """Return the peak of bytes in use so far: of the device's allocator, or resident ones on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux says KiB


def retain_freed_memory(device: torch.device) -> None:
    """Make glibc's allocator, on a CPU, retain freed memory instead of returning it to the kernel.

    A step allocates the buffers that the previous step freed, and the kernel would map them anew,
    zeroed, 4 KiB at a time: 300,000 page faults for a small model, a tenth of its step and more if
    memory is short. Does nothing with an allocator that lacks `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if device.type == "cpu" and mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never


def event_maker(device: torch.device) -> Callable[[], torch.cuda.Event] | None:
    """Return a factory of timing events for the device's stream; None for a device that is synchronous."""
    return partial(torch.cuda.Event, enable_timing=True) if device.type == "cuda" else None


def offload_policy(offload: Offload, device_type: str) -> OffloadPolicy:
    """Return FSDP's offload policy; memory is pinned if there is a device to copy to and from."""
    return CPUOffloadPolicy(pin_memory=device_type != "cpu") if offload is Offload.CPU else OffloadPolicy()


def shard_device(offload: Offload, device: torch.device) -> torch.device:
    """Return the device on which parameters are allocated."""
    return torch.device("cpu") if offload is Offload.CPU else device


def to_group_device(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return `tensor`, or a copy on a device whose tensors `group` can reduce: NCCL refuses CPU tensors."""
    devices = group._device_types
    if any(device.type == tensor.device.type for device in devices):
        return tensor
    return tensor.to(devices[0])


def record_memory_history() -> None:
    """Start recording the allocator's events."""
    torch.cuda.memory._record_memory_history(max_entries=MEMORY_EVENTS)


def dump_memory_history(path: Path) -> None:
    """Write the recorded events for https://pytorch.org/memory_viz, and stop recording."""
    torch.cuda.memory._dump_snapshot(str(path))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.cuda.memory._record_memory_history(enabled=None)


def dump_flight_recorder(path: Path) -> None:
    """Write NCCL's latest collectives in the format of torch's flight-recorder tools."""
    path.write_bytes(c10d._dump_nccl_trace())  # type: ignore[attr-defined]  # its stubs leave it out
