"""What is asked of a device in another way on each type of it."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial

import torch


def name(device: torch.device) -> str:
    """The name that its vendor gave it; "cpu" for the host."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> int:
    """Bytes in use at the worst moment so far: of the device's allocator, or resident ones on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux says KiB


def event_maker(device: torch.device) -> Callable[[], torch.cuda.Event] | None:
    """Makes marks for the device's stream; None where it does not run behind its host."""
    return partial(torch.cuda.Event, enable_timing=True) if device.type == "cuda" else None
