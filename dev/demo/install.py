"""Cluster, images and the Helm release: what stands before any run.

The chart is the only way in, here as for everybody. Images keep their tag while
a checkout changes, so pods carry their images' keys as an annotation: new images roll the
Deployments, old ones leave them alone. On an existing cluster, whose nodes cannot be
given images by hand, FOOTPLATE_VALUES names a values file with images from a registry.
"""

from __future__ import annotations

import os

from demo.kube import Kube, run, show

NAMESPACE = "footplate-system"
CHART = "charts/footplate"


def install() -> Kube:
    """Brings everything up to date and returns the tools; idempotent."""
    values = os.environ.get("FOOTPLATE_VALUES")
    show("python3", "dev/cluster", "up", *([] if values else ["--load"]))
    kube = Kube.of_cluster_tool()
    keys = dict(line.split() for line in run("python3", "dev/cluster", "image-keys").splitlines())
    # Helm installs the CRDs of a chart once and never again; this is its documented way to update them.
    kube.kubectl("apply", "--server-side", "--force-conflicts", "--filename", f"{CHART}/crds")
    print("[helm] installing charts/footplate as release footplate")
    kube.helm(
        *("upgrade", "--install", "footplate", CHART),
        *("--namespace", NAMESPACE, "--create-namespace"),
        *("--values", values or f"{CHART}/values-local.yaml"),
        *("--set-string", f"podAnnotations.footplate\\.dev/images={keys['operator']}-{keys['api']}"),
        *("--wait", "--timeout", "3m"),
    )
    return kube
