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
from collections.abc import Callable

from demo.kube import ROOT, DemoError, Kube, run, show

ADMISSION_SECONDS = 60.0
SERVED_SECONDS = 60.0
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
    wait_for_kinds(kube)
    print("[helm] installing charts/footplate as release footplate")
    kube.helm(
        *("upgrade", "--install", "footplate", CHART),
        *("--namespace", NAMESPACE, "--create-namespace"),
        *("--values", values or f"{CHART}/values-local.yaml"),
        *("--set-string", f"podAnnotations.footplate\\.dev/images={keys['operator']}-{keys['api']}"),
        *("--wait", "--timeout", "3m"),
    )
    for deployment in ("footplate-operator", "footplate-api"):  # Helm waits for no pod to go
        kube.kubectl("rollout", "status", f"deployment/{deployment}", "-n", NAMESPACE, "--timeout=90s")
    wait_for_admission(kube)
    return kube


def wait_for_kinds(kube: Kube) -> None:
    """Waits until the API server serves our kinds; DemoError with its last word if it does not.

    It does some tenths of a second after it has accepted them, longer on a busy machine. Helm waits
    only for those that it has created by itself.
    """
    kinds = ",".join(path.stem for path in (ROOT / "crds").glob("*.yaml"))
    _until_it_works(SERVED_SECONDS, lambda: kube.kubectl("get", kinds, "-A"))


def wait_for_admission(kube: Kube) -> None:
    """Waits until the API server admits TrainingRuns; DemoError with its last word if it does not.

    An API server that has just started refuses whatever a policy with parameters must judge, until
    it has looked for the parameters' kind again, which it does every 30 seconds.
    """

    def admitted() -> None:
        manifest = kube.kubectl("create", "--dry-run=client", "-o", "json", "-f", "examples/minimal.yaml")
        kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=renamed(manifest))

    _until_it_works(ADMISSION_SECONDS, admitted)


def _until_it_works(seconds: float, attempt: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            attempt()
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
