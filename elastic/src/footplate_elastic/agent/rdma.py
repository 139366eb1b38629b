"""RDMA prerequisites of a node: locked memory, and the device files of libibverbs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from footplate_contracts.failures import FailureReport
from footplate_contracts.hardware_errors import LOCKED_MEMORY
from footplate_contracts.names import Cause, ExitCode, Reason

LEAST_LOCKED: Final = 1 << 30  # bytes; NCCL pins buffers for each peer and channel
DEVICES: Final = Path("/dev/infiniband")
STATUS: Final = Path("/proc/self/status")
_UNLIMITED: Final = -1  # resource.RLIM_INFINITY
_IPC_LOCK: Final = 1 << 14  # CAP_IPC_LOCK: the kernel pins without a limit


def find_rdma_obstacle(
    resource: str, locked: int, capabilities: int, devices: Path, now: float
) -> FailureReport | None:
    """Return why RDMA cannot work here; None where it can, or where it is not requested.

    Args:
        resource: extended resource of the profile's RDMA devices; empty for none.
        locked: soft limit RLIMIT_MEMLOCK of this process, in bytes.
        capabilities: effective ones of this process, as a bit mask.
        devices: folder of the device files.
        now: seconds since the Unix epoch.
    """
    if not resource:
        return None
    if locked != _UNLIMITED and locked < LEAST_LOCKED and not capabilities & _IPC_LOCK:
        needs = f"RLIMIT_MEMLOCK is {locked} bytes, and RDMA ({resource}) needs {LEAST_LOCKED}"
        message = f"{needs}: {LOCKED_MEMORY}"
    elif not any(devices.glob("uverbs*")):
        message = (
            f"{devices}/uverbs*: no such device, though network.rdma.resource {resource} is requested: check"
            " that resource's device plugin and the RDMA driver of the node, or name another resource"
        )
    else:
        return None
    return FailureReport(
        cause=Cause.IMAGE_OR_CONFIG,
        reason=Reason.NODE_MISCONFIGURED,
        message=message,
        exit_code=int(ExitCode.STALE),  # the place is given up, so that a substitute may go elsewhere
        time=now,
    )


def effective_capabilities(status: str) -> int:
    """Return the bit mask CapEff of `status`, the text of /proc/self/status; 0 where it has none."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0
