"""Cluster, images and the Helm release: what stands before any run.

The chart is the only way in, here as for everybody. Images keep their tag while
a checkout changes, so pods carry their images' keys as an annotation: new images roll the
Deployments, old ones leave them alone. On an existing cluster, whose nodes cannot be
given images by hand, FOOTPLATE_VALUES names a values file with images from a registry.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from demo.kube import DemoError, Kube, run, show
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.verify import check_admission, wait_for

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


def wait_for_admission(kube: Kube, seconds: float = ADMISSION_SECONDS) -> None:
    """Waits until a run would be admitted, as `helm test` does; DemoError with why none is after `seconds`.

    An API server that has just started refuses whatever a policy with parameters must judge, until
    it has looked for the parameters' kind again, which it does every 30 seconds.
    """
    asked = {"a run would be admitted": lambda: check_admission(ByKubectl(kube), "default")}
    if missing := asyncio.run(wait_for(asked, seconds)):
        raise DemoError(*missing)


@dataclass(frozen=True)
class ByKubectl:
    """The Kubernetes of `admission`, asked by kubectl as everything of the demo is."""

    kube: Kube

    async def find(self, kind: Kind, namespace: str) -> list[Json]:
        """All objects of the kind in any namespace; raises ClusterError."""
        with _refusals():
            found: list[Json] = (self.kube.get(kind.plural, "--all-namespaces") or {}).get("items", [])
        return found

    async def would_create(self, kind: Kind, body: Json) -> None:
        """Raises ClusterError where the object would not be created."""
        with _refusals():
            self.kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(body))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except DemoError as error:
        raise ClusterError(str(error)) from None
