"""Mounts that kubelets and containerds leave behind: overlays, volumes, network namespaces.

They are found in the kernel's own table, by the folders that are ours, so that nothing needs to
have been written down before a crash.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cluster.errors import ClusterError

MNT_DETACH = 2
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


def mount_points(mountinfo: str) -> list[str]:
    """The mount points in the text of /proc/self/mountinfo, in mounting order."""
    points: list[str] = []
    for line in mountinfo.splitlines():
        point = line.split()[4]
        for escape, character in _ESCAPES.items():
            point = point.replace(escape, character)
        points.append(point)
    return points


def below(points: Iterable[str], folders: Sequence[Path]) -> list[str]:
    """Those mount points that lie in one of the folders, the last mounted first."""
    prefixes = tuple(f"{folder}{os.sep}" for folder in folders)
    ours = [point for point in points if f"{point}{os.sep}".startswith(prefixes)]
    return ours[::-1]


def ours(folders: Sequence[Path]) -> list[str]:
    return below(mount_points(Path("/proc/self/mountinfo").read_text()), folders)


def unmount_all(folders: Sequence[Path]) -> int:
    """Unmounts everything below the folders; returns how many mounts there were."""
    libc = ctypes.CDLL(None, use_errno=True)
    count = 0
    while points := ours(folders):
        for point in points:
            # Lazily: a mount that something still looks at goes when that stops looking.
            if libc.umount2(os.fsencode(point), MNT_DETACH) == 0:
                count += 1
            elif point in ours(folders):
                reason = os.strerror(ctypes.get_errno())
                raise ClusterError(f"cannot unmount {point}: {reason}")
    return count
