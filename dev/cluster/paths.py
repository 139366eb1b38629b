"""Where everything lives: three roots with three lifetimes.

    cache/bin, cache/images      content-keyed, outlives clusters, shared by checkouts
    cache/cluster                one cluster: kubeconfig, logs, certificates, nodes' containerd roots
    /run/footplate               sockets, process records, the lock: gone with a reboot

The machine has one bridge and one set of node addresses, so it has one cluster, whatever the
cache folder: /run/footplate is the same for all of them and names the cache in use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).resolve().parent  # `python3 PROGRAM VERB`
RUN = Path("/run/footplate")


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The cache folder: ``FOOTPLATE_CACHE``, or ``~/.cache/footplate``."""
    configured = environ.get("FOOTPLATE_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "footplate"


@dataclass(frozen=True)
class Layout:
    """Names of the files of one cluster; nothing here touches the disk."""

    cache: Path
    run: Path = RUN

    @property
    def binaries(self) -> Path:
        return self.cache / "bin"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    @property
    def cluster(self) -> Path:
        return self.cache / "cluster"

    @property
    def logs(self) -> Path:
        return self.cluster / "logs"

    @property
    def config(self) -> Path:
        return self.cluster / "config"

    @property
    def pki(self) -> Path:
        return self.cluster / "pki"

    @property
    def shared(self) -> Path:
        return self.cluster / "shared"

    @property
    def kubeconfig(self) -> Path:
        return self.cluster / "kubeconfig"

    @property
    def records(self) -> Path:
        return self.run / "processes"

    def node(self, name: str) -> Path:
        return self.cluster / "nodes" / name

    def node_run(self, name: str) -> Path:
        return self.run / name

    def containerd_socket(self, name: str) -> Path:
        return self.node_run(name) / "containerd.sock"


def layout(environ: Mapping[str, str] = os.environ) -> Layout:
    return Layout(cache=cache_root(environ))
