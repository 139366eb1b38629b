"""Configuration files: what must never be missing from them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cluster.native import network, render
from cluster.native.network import NODES

ROOT, RUN, PKI = Path("/cache/nodes/node-2"), Path("/run/footplate/node-2"), Path("/cache/pki")
NODE = NODES[1]


def containerd() -> dict[str, Any]:
    return tomllib.loads(render.containerd(NODE, ROOT, RUN))


def test_a_containerd_keeps_everything_in_folders_of_its_own() -> None:
    config = containerd()
    assert config["root"].startswith(str(ROOT))
    plugins = config["plugins"]
    sockets = [
        config["state"],
        plugins["io.containerd.server.v1.grpc"]["address"],
        plugins["io.containerd.server.v1.ttrpc"]["address"],
        plugins["io.containerd.shim.v1.manager"]["socket_dir"],
        plugins["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"]["options"]["Root"],
    ]
    assert all(path.startswith(f"{RUN}/") for path in sockets)
    assert plugins["io.containerd.cri.v1.runtime"]["netns_mounts_under_state_dir"]


@pytest.mark.parametrize(
    ("ca", "url"),
    [
        pytest.param(None, "http://10.88.0.1:5000", id="plain"),
        pytest.param(Path("/c/ca.crt"), "https://10.88.0.1:5000", id="tls"),
    ],
)
def test_a_node_pulls_from_the_registry_that_it_is_told_of(ca: Path | None, url: str) -> None:
    images = containerd()["plugins"]["io.containerd.cri.v1.images"]
    assert images["registry"]["config_path"] == str(render.registries(ROOT))
    told = tomllib.loads(render.registry_hosts("10.88.0.1:5000", ca))
    assert told["server"] == url
    assert told["host"] == {
        url: {"capabilities": ["pull", "resolve"], **({"ca": str(ca)} if ca else {})},
    }


def test_pods_start_where_root_may_not_lower_oom_scores() -> None:
    assert containerd()["plugins"]["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"]


def test_a_kubelet_lives_in_its_node_and_starts_pods_side_by_side() -> None:
    config = json.loads(render.kubelet(NODE, ROOT, RUN, PKI))
    assert config["cgroupRoot"] == "/footplate-node-2"
    assert config["containerRuntimeEndpoint"] == "unix:///run/footplate/node-2/containerd.sock"
    assert config["podLogsDir"].startswith(str(ROOT))
    assert config["serializeImagePulls"] is False
    assert config["imageGCHighThresholdPercent"] == 100


def test_heartbeats_may_get_lost_several_times_before_a_node_is_given_up() -> None:
    config = json.loads(render.kubelet(NODE, ROOT, RUN, PKI))
    assert config["nodeLeaseDurationSeconds"] / 4 * 5 <= 20


def test_dns_caches_nothing_and_forwards_nothing() -> None:
    corefile = render.corefile(Path("/kubeconfig"))
    assert "cache" not in corefile
    assert "forward" not in corefile
    # Plugins run in a fixed order in which `template` comes first: it needs a block of its own.
    cluster_block, rest = corefile.split("}\n.:", 1)
    assert "kubernetes cluster.local" in cluster_block
    assert "template" in rest


def test_the_pod_network_of_a_node_follows_from_its_number() -> None:
    config = json.loads(render.cni(NODE, ROOT))
    plugin = config["plugins"][0]
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.244.2.0/24"}]]
    assert plugin["ipam"]["dataDir"].startswith(str(ROOT))
    assert config["name"].startswith(network.PREFIX)


def test_every_bootstrap_object_says_what_it_is() -> None:
    objects = render.bootstrap_objects()
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert len(names) == len(objects)
    assert ("StorageClass", "footplate-shared") in names
    assert ("Service", "kube-dns") in names
    assert ("ClusterRoleBinding", "footplate:nodes") in names


def test_a_node_reaches_the_pods_of_every_other_node() -> None:
    inside = network.inside_commands(NODES[0])
    assert "route replace 10.244.2.0/24 via 10.88.0.12" in inside
    assert "route replace 10.244.3.0/24 via 10.88.0.13" in inside
    assert not any("10.244.1.0/24" in command for command in inside)


def test_link_names_fit_into_the_kernels_fifteen_characters() -> None:
    assert all(len(node.link) <= 15 for node in NODES)
