"""One node: a containerd, a kubelet and a kube-proxy of its own in a network of its own."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import NotReady
from cluster.machine import shell
from cluster.machine.processes import Service, Supervisor
from cluster.machine.records import write_whole
from cluster.native import render
from cluster.native.control_plane import identity
from cluster.native.network import Node
from cluster.paths import Layout
from cluster.programs.kubeadm import Kubeadm

CONTAINERD_SECONDS = 30.0
NAMESPACE = "k8s.io"  # containerd's own partition for what Kubernetes runs


@dataclass(frozen=True)
class Programs:
    """Folders of built programs."""

    kubernetes: Path
    containerd: Path
    coredns: Path
    pause: Path


class Ctr:
    """containerd's command line, for one node."""

    def __init__(self, programs: Programs, layout: Layout, node: Node) -> None:
        self._prefix = [
            str(programs.containerd / "ctr"),
            *("--address", str(layout.containerd_socket(node.name))),
            *("--namespace", NAMESPACE),
        ]

    def run(self, *words: str | Path, timeout: float | None = 60.0) -> str:
        return shell.run([*self._prefix, *words], timeout=timeout)

    def attempt(self, *words: str) -> bool:
        """For what may well have nothing to do."""
        return shell.succeeds([*self._prefix, *words], timeout=60.0)

    def answers(self) -> bool:
        return shell.succeeds([*self._prefix, "version"], timeout=5)

    def images(self) -> dict[str, str]:
        """Image names and the digests of their manifests."""
        rows = self.run("images", "list").splitlines()[1:]
        return {row.split()[0]: row.split()[2] for row in rows if len(row.split()) > 2}


def containerd_service(layout: Layout, programs: Programs, node: Node) -> Service:
    path = f"{programs.containerd}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = layout.node(node.name) / "containerd.toml"
    return Service(
        f"{node.name}-containerd",
        (str(programs.containerd / "containerd"), "--config", str(config)),
        node.name,
        network=node.namespace,
        env={"PATH": path},  # where it looks for its shim and for runc
    )


def kubelet_service(layout: Layout, programs: Programs, node: Node) -> Service:
    root = layout.node(node.name)
    return Service(
        f"{node.name}-kubelet",
        (
            str(programs.kubernetes / "kubelet"),
            f"--config={root / 'kubelet.yaml'}",
            f"--kubeconfig={layout.config / node.name / 'kubelet.conf'}",
            f"--root-dir={root / 'kubelet'}",
            f"--cert-dir={root / 'kubelet' / 'pki'}",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            f"--node-labels=karpenter.sh/capacity-type={node.capacity}",
        ),
        node.name,
        network=node.namespace,
    )


def kube_proxy_service(layout: Layout, programs: Programs, node: Node) -> Service:
    config = layout.node(node.name) / "kube-proxy.yaml"
    return Service(
        f"{node.name}-kube-proxy",
        (str(programs.kubernetes / "kube-proxy"), f"--config={config}"),
        node.name,
        network=node.namespace,
    )


def write_config(layout: Layout, node: Node) -> None:
    root, run = layout.node(node.name), layout.node_run(node.name)
    run.mkdir(parents=True, exist_ok=True)
    write_whole(root / "containerd.toml", render.containerd(node, root, run))
    write_whole(root / "cni" / "net.d" / "10-footplate.conflist", render.cni(node, root))
    write_whole(root / "kubelet.yaml", render.kubelet(node, root, run, layout.pki))
    write_whole(root / "resolv.conf", "")
    proxy = render.kube_proxy(node, layout.config / "kube-proxy.conf")
    write_whole(root / "kube-proxy.yaml", proxy)
    # Until kubelets make their own serving certificates they need a folder to put them in.
    (root / "kubelet").mkdir(parents=True, exist_ok=True)


def use_registry(layout: Layout, node: Node, address: str, ca: Path | None) -> None:
    """The node pulls images of that registry from now on, by its own network."""
    folder = render.registries(layout.node(node.name)) / address
    kept = None
    if ca:
        kept = folder / "ca.crt"
        write_whole(kept, ca.read_text())
    write_whole(folder / "hosts.toml", render.registry_hosts(address, kept))


def start_containerd(
    layout: Layout, programs: Programs, supervisor: Supervisor, node: Node, fresh: bool
) -> None:
    """Starts the node's containerd; ``fresh``: without any container of an earlier cluster."""
    service = containerd_service(layout, programs, node)
    ctr = Ctr(programs, layout, node)
    if not supervisor.ensure(service):
        return
    _wait_for_containerd(supervisor, service, ctr)
    if fresh and _purge(ctr):
        # Its Kubernetes side has read the old containers already.
        supervisor.stop(service.name)
        supervisor.ensure(service)
        _wait_for_containerd(supervisor, service, ctr)


def _wait_for_containerd(supervisor: Supervisor, service: Service, ctr: Ctr) -> None:
    deadline = time.monotonic() + CONTAINERD_SECONDS
    while not ctr.answers():
        supervisor.check(service.name)
        if time.monotonic() > deadline:
            raise NotReady(f"{service.name} does not answer: see {supervisor.log(service.name)}")
        time.sleep(0.05)


def _purge(ctr: Ctr) -> bool:
    """Forgets containers whose processes are long gone; their images stay."""
    containers = ctr.run("containers", "list", "--quiet").split()
    sandboxes = [row.split()[0] for row in ctr.run("sandboxes", "list").splitlines()[1:]]
    if containers:
        ctr.run("containers", "delete", *containers)
    if sandboxes:
        ctr.run("sandboxes", "remove", *sandboxes)
    return bool(containers or sandboxes)


def write_kubelet_credentials(layout: Layout, programs: Programs, node: Node) -> None:
    folder = layout.config / node.name
    folder.mkdir(parents=True, exist_ok=True)
    kubeadm = Kubeadm(programs.kubernetes / "kubeadm", identity(layout))
    kubeadm.kubeconfig("kubelet", folder, "--node-name", node.name)


def start_kubelet(layout: Layout, programs: Programs, supervisor: Supervisor, node: Node) -> None:
    supervisor.ensure(kubelet_service(layout, programs, node))
    supervisor.ensure(kube_proxy_service(layout, programs, node))


def forget_state(layout: Layout, node: Node) -> None:
    """Removes what the node's programs wrote, except the images. Nothing may be mounted there."""
    root = layout.node(node.name)
    for folder in ("kubelet", "pod-logs", "cni", "volume-plugins", "opt"):
        shutil.rmtree(root / folder, ignore_errors=True)
    shutil.rmtree(layout.node_run(node.name), ignore_errors=True)
