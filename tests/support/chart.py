"""The chart as `helm template` renders it, and Helm itself, from the cluster tool's cache."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cluster import paths
from cluster.machine.processes import BRIEF_GO
from cluster.programs import binaries

CHART = Path(__file__).resolve().parents[2] / "charts" / "footplate"
VERSION = (CHART.parents[1] / "VERSION").read_text().strip()
NAMESPACE = "footplate-system"
# Without a cluster Helm assumes a version that its build states; the chart asks for 1.30.
KUBERNETES = "1.36.0"
_DEFINITION = "\nkind: CustomResourceDefinition\n"


@cache
def helm_program() -> Path:
    """Helm's path; builds it where the cache has none."""
    return binaries.build(binaries.HELM, paths.layout()) / "helm"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Helm to its end, whatever its exit status."""
    return subprocess.run(
        [str(helm_program()), *arguments],
        cwd=CHART,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **BRIEF_GO},
    )


def template(*flags: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """`helm template` of the release `footplate`."""
    place = (f"--namespace={NAMESPACE}", f"--kube-version={KUBERNETES}")
    return helm("template", "footplate", str(chart), *place, *flags)


def rendered(*flags: str, chart: Path = CHART) -> list[dict[str, Any]]:
    """The objects of the chart under the given flags, but for CRDs, which are most of the text.

    They are the caller's own; Helm renders once for all who ask for the same.
    """
    objects: list[dict[str, Any]] = pickle.loads(_rendered(*flags, chart=chart))
    return objects


@cache
def _rendered(*flags: str, chart: Path) -> bytes:
    """The same objects as bytes, which nobody changes."""
    done = template(*flags, chart=chart)
    assert done.returncode == 0, done.stderr
    documents = done.stdout.split("\n---\n")
    return pickle.dumps(objects_in("\n---\n".join(part for part in documents if _DEFINITION not in part)))


def objects_in(text: str) -> list[dict[str, Any]]:
    """The objects of a text with one or more documents; by the parser in C, ten times faster."""
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The object of that kind and name."""
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def rights(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    """(API group, resource) -> verbs."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for key in itertools.product(rule["apiGroups"], rule["resources"]):
            found.setdefault(key, set()).update(rule["verbs"])
    return found


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    """The one container of a Deployment."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment(deployment: dict[str, Any]) -> dict[str, Any]:
    """Name -> value, or the source of the value."""
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container(deployment)["env"]}


def volumes(deployment: dict[str, Any]) -> dict[str, Any]:
    """Volumes of a Deployment by name."""
    found = deployment["spec"]["template"]["spec"]["volumes"]
    return {item["name"]: {key: item[key] for key in item.keys() - {"name"}} for item in found}


def mounts(deployment: dict[str, Any]) -> dict[str, str]:
    """Where volumes are mounted as a whole, by name."""
    return {
        item["name"]: item["mountPath"]
        for item in container(deployment)["volumeMounts"]
        if "subPath" not in item  # of which the kubelet brings nothing new
    }
