"""Every configuration file of the cluster as a pure function of addresses and paths.

JSON wherever the reader takes YAML: every JSON document is one, and the standard library writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.kubernetes.volumes import storage_class
from cluster.native.network import DNS_ADDRESS, GATEWAY, POD_NETWORK, Node

PAUSE_IMAGE = "localhost/footplate/pause:1"
CNI_PLUGINS = "/usr/lib/cni"  # where Debian's containernetworking-plugins puts them
# Not 53, which a resolver listening on all addresses may hold; pods see 53 all the same.
DNS_PORT = 10053


def containerd(node: Node, root: Path, run: Path) -> str:
    """One node's containerd: nothing of it may lie where another node's, or the machine's, does."""
    return f"""\
version = 4
root = '{root}/containerd'
state = '{run}/containerd'
# By default it reads the machine's own settings too.
imports = []
disabled_plugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.internal.v1.tracing',
  'io.containerd.tracing.processor.v1.otlp',
]

[plugins.'io.containerd.server.v1.grpc']
  address = '{run}/containerd.sock'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '{run}/containerd.sock.ttrpc'

[plugins.'io.containerd.internal.v1.opt']
  path = '{root}/opt'
[plugins.'io.containerd.shim.v1.manager']
  socket_dir = '{run}/s'
[plugins.'io.containerd.metadata.v1.bolt']
  # The images can be loaded again; an fsync for every container start cannot be afforded.
  no_sync = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.images'.registry]
  # Read at each pull; without it, the machine's own.
  config_path = '{registries(root)}'

[plugins.'io.containerd.cri.v1.runtime']
  # Root may lack CAP_SYS_RESOURCE here; without this every sandbox fails with
  # "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  enable_criu = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['{CNI_PLUGINS}']
  conf_dir = '{root}/cni/net.d'
  # One program less to run for each pod, and no record of it in /var/lib/cni.
  use_internal_loopback = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  Root = '{run}/runc'
  SystemdCgroup = false
"""


def registries(root: Path) -> Path:
    """Where a node's containerd looks for how to speak to a registry."""
    return root / "certs.d"


def registry_hosts(address: str, ca: Path | None) -> str:
    """hosts.toml of the registry at that address; without an authority it is asked in plain HTTP."""
    url = f"{'https' if ca else 'http'}://{address}"
    trusted = f"  ca = '{ca}'\n" if ca else ""
    return f"server = '{url}'\n\n[host.'{url}']\n  capabilities = ['pull', 'resolve']\n{trusted}"


def cni(node: Node, root: Path) -> str:
    """The pod network of one node.

    Routed (``ptp``), not bridged: two pods of one node that talk through a service address would
    need bridge-netfilter to find their way back over a bridge.
    """
    document = {
        "cniVersion": "1.0.0",
        "name": node.namespace,
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(root / "cni" / "addresses"),
                    "ranges": [[{"subnet": node.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
    return json.dumps(document, indent=1)


def kubelet(node: Node, root: Path, run: Path, pki: Path) -> str:
    """One node's kubelet, tuned as an administrator who cares for fast recovery could."""
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        # The machine's own search domains and resolver are of no use inside.
        "resolvConf": str(root / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{run}/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.namespace}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "podLogsDir": str(root / "pod-logs"),
        "volumePluginDir": str(root / "volume-plugins"),
        "serverTLSBootstrap": False,
        "rotateCertificates": False,
        # Three nodes share one disk, which belongs to the developer: never clean it up for room.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        # A dead node is known after 20 s instead of 50 s (with the controller manager's
        # node-monitor-grace-period): heartbeats every 4 s, five of which may get lost.
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 16,  # renewed at a quarter of it
        # Pods start side by side and are reported at once.
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "syncFrequency": "10s",
        "featureGates": {},
        "logging": {"verbosity": 1},
    }
    return json.dumps(document, indent=1)


def kube_proxy(node: Node, kubeconfig: Path) -> str:
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": POD_NETWORK,
        # Zero leaves the machine-wide connection tracking limits as they are.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    return json.dumps(document, indent=1)


def corefile(kubeconfig: Path) -> str:
    """Cluster names only: nothing is cached and nothing is forwarded.

    A name that did not exist a moment ago is how every headless service begins: a cached
    "no such name" would hold its pods up. Other names fail at once instead of after time-outs.
    """
    return f"""\
cluster.local:{DNS_PORT} in-addr.arpa:{DNS_PORT} ip6.arpa:{DNS_PORT} {{
    bind {GATEWAY}
    errors
    ready {GATEWAY}:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 0
    }}
    loadbalance
}}
.:{DNS_PORT} {{
    bind {GATEWAY}
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


def _binding(name: str, role: str, kind: str, subject: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": subject}],
    }


def _dns_objects() -> list[dict[str, Any]]:
    labels = {"k8s-app": "kube-dns"}
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["services", "pods", "namespaces", "endpoints"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        },
        _binding("system:coredns", "system:coredns", "User", "system:coredns"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": DNS_ADDRESS,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": DNS_PORT},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": DNS_PORT},
                ],
            },
        },
        {
            # CoreDNS is a program of the machine, which no selector finds.
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {**labels, "kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [GATEWAY], "conditions": {"ready": True}}],
            "ports": [
                {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
                {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
            ],
        },
    ]


def bootstrap_objects() -> list[dict[str, Any]]:
    """What kubeadm's later phases, and a cluster's add-ons, would have created."""
    kubelets = _binding(
        "footplate:kubelet-api",
        "system:kubelet-api-admin",
        "User",
        "kube-apiserver-kubelet-client",
    )
    # The node authorizer learns of a pod a moment after the node's kubelet has. A claim that is
    # refused in that moment holds the pod up until the kubelet's next look, 10 s later
    # (kubernetes/kubernetes#113429). Here a node may read what it needs without that proof.
    nodes = _binding("footplate:nodes", "system:node", "Group", "system:nodes")
    return [
        _binding("kubeadm:cluster-admins", "cluster-admin", "Group", "kubeadm:cluster-admins"),
        kubelets,
        nodes,
        *_dns_objects(),
        storage_class(default=True),
    ]
