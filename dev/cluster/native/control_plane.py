"""The control plane as plain processes: etcd, API server, controller manager, scheduler, DNS.

Flags are what kubeadm would set for one control-plane node, plus what the comments say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cluster.machine import shell
from cluster.machine.processes import Service
from cluster.machine.records import write_whole
from cluster.native import render
from cluster.native.network import GATEWAY, POD_NETWORK, SERVICE_NETWORK
from cluster.paths import Layout
from cluster.programs.kubeadm import Identity, Kubeadm

GROUP = "control-plane"
API_PORT = 6443
ETCD_PORT = 12379  # not etcd's own: the machine may run another
CLUSTER_NAME = "footplate"
ADDRESS = f"https://{GATEWAY}:{API_PORT}"


def identity(layout: Layout) -> Identity:
    return Identity(CLUSTER_NAME, GATEWAY, API_PORT, layout.pki, SERVICE_NETWORK)


def _service(name: str, binary: Path, flags: Mapping[str, object]) -> Service:
    words = (f"--{flag}={value}" for flag, value in flags.items())
    return Service(name, (str(binary), *words), GROUP)


def etcd(layout: Layout, programs: Path) -> Service:
    pki = layout.pki / "etcd"
    url = f"https://127.0.0.1:{ETCD_PORT}"
    peer = f"https://127.0.0.1:{ETCD_PORT + 1}"
    flags: dict[str, object] = {
        "name": "footplate",
        "data-dir": layout.cluster / "etcd",
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"footplate={peer}",
        "cert-file": pki / "server.crt",
        "key-file": pki / "server.key",
        "client-cert-auth": "true",
        "trusted-ca-file": pki / "ca.crt",
        "peer-cert-file": pki / "peer.crt",
        "peer-key-file": pki / "peer.key",
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": pki / "ca.crt",
        "unsafe-no-fsync": "true",  # this cluster need not survive a power cut
        "log-level": "warn",
    }
    return _service("etcd", programs / "etcd", flags)


def api_server(layout: Layout, programs: Path) -> Service:
    pki = layout.pki
    flags: dict[str, object] = {
        "advertise-address": GATEWAY,
        "bind-address": GATEWAY,  # the machine and its nodes; nobody outside
        "secure-port": API_PORT,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "etcd-servers": f"https://127.0.0.1:{ETCD_PORT}",
        "etcd-cafile": pki / "etcd" / "ca.crt",
        "etcd-certfile": pki / "apiserver-etcd-client.crt",
        "etcd-keyfile": pki / "apiserver-etcd-client.key",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        # Otherwise logs and exec look the node's name up in the machine's DNS.
        "kubelet-preferred-address-types": "InternalIP",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        # No kube-proxy serves the machine itself: webhooks are called at their pods.
        "enable-aggregator-routing": "true",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "service-cluster-ip-range": SERVICE_NETWORK,
    }
    return _service("kube-apiserver", programs / "kube-apiserver", flags)


def controller_manager(layout: Layout, programs: Path) -> Service:
    pki = layout.pki
    kubeconfig = layout.config / "controller-manager.conf"
    flags: dict[str, object] = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": GATEWAY,
        "client-ca-file": pki / "ca.crt",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "root-ca-file": pki / "ca.crt",
        "cluster-name": CLUSTER_NAME,
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "service-account-private-key-file": pki / "sa.key",
        "service-cluster-ip-range": SERVICE_NETWORK,
        "cluster-cidr": POD_NETWORK,
        # Each node's range follows from its number (network.Node), not from who came first.
        "allocate-node-cidrs": "false",
        "use-service-account-credentials": "true",
        "controllers": "*,bootstrap-signer-controller,token-cleaner-controller",
        "leader-elect": "false",
        # Kubernetes' own default of 50 s is for networks that lose heartbeats. The kubelets
        # here send one every 4 s (render.kubelet).
        "node-monitor-period": "2s",
        "node-monitor-grace-period": "20s",
        "kube-api-qps": 100,
        "kube-api-burst": 200,
    }
    return _service("kube-controller-manager", programs / "kube-controller-manager", flags)


def scheduler(layout: Layout, programs: Path) -> Service:
    kubeconfig = layout.config / "scheduler.conf"
    flags: dict[str, object] = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": GATEWAY,
        "leader-elect": "false",
    }
    return _service("kube-scheduler", programs / "kube-scheduler", flags)


def coredns(layout: Layout, programs: Path) -> Service:
    return Service(
        "coredns",
        (str(programs / "coredns"), "-conf", str(layout.config / "Corefile")),
        GROUP,
    )


def write_credentials(layout: Layout, programs: Path) -> None:
    """Certificates, and a kubeconfig for each part that is not a node; kept if they exist."""
    kubeadm = Kubeadm(programs / "kubeadm", identity(layout))
    layout.config.mkdir(parents=True, exist_ok=True)
    kubeadm.certificates()
    for which in ("admin", "super-admin", "controller-manager", "scheduler"):
        kubeadm.kubeconfig(which, layout.config)
    for user in ("kube-proxy", "coredns"):
        text = kubeadm.user_kubeconfig(f"system:{user}")
        write_whole(layout.config / f"{user}.conf", text, 0o600)
    write_whole(layout.config / "Corefile", render.corefile(layout.config / "coredns.conf"))
    write_whole(layout.kubeconfig, (layout.config / "admin.conf").read_text(), 0o600)


def apply_bootstrap_objects(layout: Layout, programs: Path) -> None:
    """Creates or updates what a cluster needs besides its programs."""
    objects = {"apiVersion": "v1", "kind": "List", "items": render.bootstrap_objects()}
    # Only the super administrator has rights before these very objects exist.
    kubeconfig = layout.config / "super-admin.conf"
    shell.run(
        [
            *(programs / "kubectl", "--kubeconfig", kubeconfig),
            *("apply", "--server-side", "--force-conflicts", "--filename=-"),
        ],
        stdin=json.dumps(objects),
    )
