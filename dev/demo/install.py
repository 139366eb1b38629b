"""Cluster, images and the Helm release: what stands before any run.

The chart is the only way in, here as for everybody. Images keep their tag while
a checkout changes, so pods carry their images' keys as an annotation: new images roll the
Deployments, old ones leave them alone. On an existing cluster, whose nodes cannot be
given images by hand, FOOTPLATE_VALUES names a values file with images from a registry.
"""

from __future__ import annotations

import json
import os
import time

from demo.kube import DemoError, Kube, run, show

ADMISSION_SECONDS = 60.0
NAMESPACE = "footplate-system"
CHART = "charts/footplate"


def install() -> Kube:
    """Brings everything up to date and returns the tools; idempotent."""
    values = os.environ.get("FOOTPLATE_VALUES")
    show("python3", "dev/cluster", "up", *([] if values else ["--load"]))
    kube = Kube.of_cluster_tool()
    keys = dict(line.split() for line in run("python3", "dev/cluster", "image-keys").splitlines())
    print("[helm] installing charts/footplate as release footplate")
    # CRDs of a checkout that had them in the chart's folder crds are nobody's yet.
    kube.helm(
        *("upgrade", "--install", "--take-ownership", "footplate", CHART),
        *("--namespace", NAMESPACE, "--create-namespace"),
        *("--values", values or f"{CHART}/values-local.yaml"),
        *("--set-string", f"podAnnotations.footplate\\.dev/images={keys['operator']}-{keys['api']}"),
        *("--wait", "--timeout", "3m"),
    )
    for deployment in ("footplate-operator", "footplate-api"):  # Helm waits for no pod to go
        kube.kubectl("rollout", "status", f"deployment/{deployment}", "-n", NAMESPACE, "--timeout=90s")
    wait_for_admission(kube)
    return kube


def wait_for_admission(kube: Kube) -> None:
    """Waits until the API server admits TrainingRuns; DemoError with its last word if it does not.

    An API server that has just started refuses whatever a policy with parameters must judge, until
    it has looked for the parameters' kind again, which it does every 30 seconds.
    """

    deadline = time.monotonic() + ADMISSION_SECONDS
    while True:
        try:
            manifest = kube.kubectl("create", "--dry-run=client", "-o", "json", "-f", "examples/minimal.yaml")
            kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=renamed(manifest))
            return
        except DemoError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(1.0)


def renamed(manifest: str) -> str:
    """The manifest under a name that nobody has."""
    run = json.loads(manifest)
    run["metadata"]["name"] = "footplate-admission"
    return json.dumps(run)
