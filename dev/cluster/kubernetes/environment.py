"""What a person wants to see of a cluster, and to have in the shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from cluster.kubernetes.api_client import ApiClient, ApiError
from cluster.machine.records import link_whole
from cluster.paths import Layout
from cluster.programs import binaries

_TOOLS = {"kubectl": binaries.KUBERNETES, "helm": binaries.HELM}


def tools_folder(layout: Layout) -> Path:
    """A folder with kubectl and helm and nothing else, for PATH."""
    folder = layout.cache / "tools"
    for name, program in _TOOLS.items():
        link, target = folder / name, binaries.build(program, layout) / name
        if not (link.is_symlink() and link.readlink() == target):
            link_whole(link, target)
    return folder


def shell_lines(layout: Layout, kubeconfig: Path | str) -> str:
    """Lines for ``eval``."""
    folder = double_quoted(str(tools_folder(layout)))
    return f'export KUBECONFIG="{double_quoted(str(kubeconfig))}"\nexport PATH="{folder}:$PATH"'


def double_quoted(text: str) -> str:
    """``text`` as it is written between a shell's double quotes."""
    return re.sub(r'([\\"$`])', r"\\\1", text)


def node_row(node: dict[str, Any]) -> str:
    conditions = {item["type"]: item["status"] for item in node.get("status", {}).get("conditions", [])}
    ready = "Ready" if conditions.get("Ready") == "True" else "NotReady"
    info = node["status"]["nodeInfo"]
    addresses = [item["address"] for item in node["status"]["addresses"] if item["type"] == "InternalIP"]
    gpus = node["status"].get("capacity", {}).get("nvidia.com/gpu", "0")
    fields = (
        f"{node['metadata']['name']:10}",
        f"{ready:9}",
        f"{', '.join(addresses):12}",
        f"Kubernetes {info['kubeletVersion']}",
        info["containerRuntimeVersion"].replace("://", " "),
        f"{gpus} GPUs",
    )
    return "  ".join(fields)


def nodes_table(api: ApiClient) -> str:
    try:
        return "\n".join(node_row(node) for node in api.get("/api/v1/nodes")["items"])
    except ApiError as error:
        return str(error)


def versions() -> str:
    return (
        f"programs: Kubernetes {binaries.KUBERNETES_VERSION}, containerd {binaries.CONTAINERD_VERSION}, "
        f"Helm {binaries.HELM_VERSION}"
    )


def caches(layout: Layout) -> str:
    """The caches and their sizes; what nodes link to the images' layers counts once, there."""
    folders = [layout.cache / name for name in ("bin", "images", "cluster", "uv")]
    existing = [folder for folder in folders if folder.is_dir()]
    if not existing:
        return f"cache {layout.cache}: empty"
    # One command for all of them, or what is linked would count in each.
    done = subprocess.run(["du", "-sh", *existing], capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return "\n".join(
        [f"cache {layout.cache}:", *(f"  {Path(folder).name:8} {size}" for size, folder in rows)]
    )
