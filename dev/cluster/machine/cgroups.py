"""Control groups are how the cluster's processes are found again, whatever happened.

Each node has a group named ``footplate-NAME``; its containerd, kubelet and kube-proxy start in
``footplate-NAME/system`` and its containers under ``footplate-NAME/kubepods``. Children inherit the
group, so shims and containers that outlived everyone who knew them are still in it.

Written for cgroup v1 (a tree per controller), v2 (one tree) and the hybrid of both; the machines that
run our own tests have the hybrid.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import NotReady

ROOT = Path("/sys/fs/cgroup")
PREFIX = "footplate-"
SYSTEM = "system"
KILL_SECONDS = 20.0
# Inherited from the parent by hand: a new v1 cpuset group is empty and admits no process.
_CPUSET = ("cpuset.cpus", "cpuset.mems")


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The root of every cgroup tree of this machine."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(path for path in root.iterdir() if (path / "cgroup.procs").exists())


def tracking_hierarchy(root: Path = ROOT) -> Path:
    """The tree whose membership says which processes are ours: containers always join ``pids``."""
    pids = root / "pids"
    return pids if pids.is_dir() else root


def groups(root: Path = ROOT) -> list[Path]:
    """Our top-level groups in all trees."""
    return [group for tree in hierarchies(root) for group in tree.glob(f"{PREFIX}*")]


def create(name: str) -> None:
    """Makes the group ``footplate-name`` in every tree, and its ``system`` group to track by."""
    for tree in hierarchies():
        group = tree / f"{PREFIX}{name}"
        group.mkdir(exist_ok=True)
        for setting in _CPUSET:
            if (tree / setting).exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((tree / setting).read_text())
    (tracking_hierarchy() / f"{PREFIX}{name}" / SYSTEM).mkdir(exist_ok=True)


def system_procs(name: str) -> Path:
    """Writing a pid here makes that process part of ``name``."""
    return tracking_hierarchy() / f"{PREFIX}{name}" / SYSTEM / "cgroup.procs"


def members(trees: Iterable[Path]) -> set[int]:
    """The pids in these groups and below."""
    pids: set[int] = set()
    for tree in trees:
        for folder, _, _ in os.walk(tree):
            try:
                pids.update(int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())
            except OSError:
                continue  # removed while we walked, or a threaded v2 group
    return pids


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill_all() -> int:
    """Ends every process in our groups; returns how many there were."""
    seen: set[int] = set()
    deadline = time.monotonic() + KILL_SECONDS
    # Again until none is left: a process may have forked between our look and our kill.
    while pids := members(groups()) - {os.getpid()}:
        seen |= pids
        _kill(pids)
        if time.monotonic() > deadline:
            raise NotReady(f"processes {sorted(pids)} do not die; look at /proc/PID/stack")
        time.sleep(0.05)
    return len(seen)


def kill_group(name: str) -> int:
    """Ends every process of one node, containers included, as a power cut would."""
    trees = [tree / f"{PREFIX}{name}" for tree in hierarchies()]
    deadline = time.monotonic() + KILL_SECONDS
    count = 0
    while pids := members(tree for tree in trees if tree.exists()):
        count = max(count, len(pids))
        _kill(pids)
        if time.monotonic() > deadline:
            raise NotReady(f"processes {sorted(pids)} of {name} do not die")
        time.sleep(0.05)
    return count


def remove_all() -> None:
    """Ends what is left in our groups, and removes them."""
    deadline = time.monotonic() + KILL_SECONDS
    while left := groups():
        # A program that was just being started joins its group after the others were ended.
        kill_all()
        for group in left:
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    continue
        if time.monotonic() > deadline:
            raise NotReady(f"control groups stay busy: {[str(group) for group in groups()]}")
        if groups():
            time.sleep(0.05)
