"""The processes of a pod, as this machine sees them: to stop one, let it go on or end it, by its pid.

A container's init is protected from the signals of its own pod (a SIGSTOP or SIGKILL from inside does
nothing to it), so what stops an agent or a coordinator has to come from outside.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cluster.machine import cgroups
from cluster.machine.records import observed_start_time
from cluster.native.network import Node

_PAUSE = ("/pause",)  # holds the pod's network, and is no program of anybody's


@dataclass(frozen=True)
class Process:
    """A process, safe against another one that has its pid by now."""

    pid: int
    start_time: int  # clock ticks since boot
    name: str = field(compare=False)  # as ps shows it, up to 15 characters
    argv: tuple[str, ...] = field(compare=False)  # empty while it is about to end

    @property
    def alive(self) -> bool:
        """Whether it runs, or stands still; not once it has ended."""
        return observed_start_time(self.pid) == self.start_time

    def signal(self, number: int) -> bool:
        """Sends it a signal; whether it was still there."""
        if not self.alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    @property
    def stopped(self) -> bool:
        """Whether it stands still."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state in "Tt" and self.alive


def group_of(node: Node, uid: str) -> Path | None:
    """The control group of a pod in the tree that knows all processes; None where it has none."""
    root = cgroups.tracking_hierarchy() / f"{cgroups.PREFIX}{node.name}" / "kubepods"
    for parent in (root / "burstable", root / "besteffort", root):
        if (found := parent / f"pod{uid}").is_dir():
            return found
    return None


def processes(node: Node, uid: str) -> list[Process]:
    """The live processes of the pod with this uid on ``node``, oldest first."""
    group = group_of(node, uid)
    if group is None:
        return []
    seen = (_seen(pid) for pid in cgroups.members([group]))
    found = [process for process in seen if process is not None and process.argv[:1] != _PAUSE]
    return sorted(found, key=lambda process: (process.start_time, process.pid))


def _seen(pid: int) -> Process | None:
    started = observed_start_time(pid)
    try:
        folder = Path("/proc", str(pid))
        name = (folder / "comm").read_text().strip()
        argv = tuple((folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
    except OSError:
        return None
    return None if started is None else Process(pid, started, name, argv)
