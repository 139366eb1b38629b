"""Takes a cluster away completely, in whatever state it is.

Nothing here asks what should exist. Everything is found where the kernel keeps it, by names that
are ours: processes by control group, mounts by folder, links and namespaces by prefix.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from cluster.machine import cgroups, mounts
from cluster.native import network, nodes
from cluster.native.network import NODES, PREFIX
from cluster.paths import RUN, Layout

# Written outside our folders by kubelets and CNI plugins, whatever they are configured to.
_CONTAINER_LOGS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")


def _mount_folders(homes: Iterable[Path]) -> list[Path]:
    return [RUN, *(Layout(home).cluster for home in homes)]


def leftovers(homes: Iterable[Path]) -> list[str]:
    """What of a cluster is on this machine, for a person to read; empty when nothing is."""
    groups = cgroups.groups()
    return [
        *(f"process {pid}" for pid in sorted(cgroups.members(groups))),
        *(f"mount {point}" for point in mounts.ours(_mount_folders(homes))),
        *(f"network {name}" for name in network.leftovers()),
        *(f"control group {group}" for group in groups),
    ]


def clean(homes: Iterable[Path]) -> None:
    """Ends and removes everything of the cluster but images, binaries and logs."""
    homes = list(homes)
    cgroups.kill_all()
    mounts.unmount_all(_mount_folders(homes))
    network.disconnect()
    cgroups.remove_all()
    for home in homes:
        remove_state(Layout(home))


def remove_state(layout: Layout) -> None:
    """Removes what the cluster's programs wrote. Nothing may be mounted below any more."""
    for node in NODES:
        nodes.forget_state(layout, node)
    for folder in (layout.cluster / "etcd", layout.pki, layout.config, layout.shared):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(layout.records, ignore_errors=True)
    layout.kubeconfig.unlink(missing_ok=True)
    _remove_links(_CONTAINER_LOGS, layout.cluster)
    for result in _CNI_RESULTS.glob(f"{PREFIX}*"):
        result.unlink(missing_ok=True)
    for folder in (_DEVICE_PLUGINS, _DEVICE_PLUGINS.parent, _CNI_RESULTS, _CNI_RESULTS.parent):
        _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    # Not empty, or not there: somebody else's, or nobody's.
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove_links(folder: Path, into: Path) -> None:
    if not folder.is_dir():
        return
    for link in folder.iterdir():
        if link.is_symlink() and link.readlink().is_relative_to(into):
            link.unlink()


def reset_files(layout: Layout) -> None:
    """Before a new cluster: no state and no logs of an old one."""
    remove_state(layout)
    shutil.rmtree(layout.logs, ignore_errors=True)
    layout.logs.mkdir(parents=True)
    layout.shared.mkdir(parents=True, exist_ok=True)
