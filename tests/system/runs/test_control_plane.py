"""Losing the control plane costs a run nothing."""

from __future__ import annotations

import subprocess
import time

import pytest

from demo.kube import ROOT
from tests.support.runs import Runs, tiny

pytestmark = [pytest.mark.system, pytest.mark.long]

SYSTEM = "footplate-system"
OUTAGE_SECONDS = 5.0


def cluster(*arguments: str) -> None:
    """One verb of the cluster tool."""
    subprocess.run(["python3", "dev/cluster", *arguments], cwd=ROOT, check=True)


@pytest.mark.alone(last=True)
def test_restarts_of_operator_api_and_api_server(runs: Runs, name: str, mended: None) -> None:
    """All three restart in mid-run: the same pods go on, and the history has each step once."""
    runs.apply(tiny(name, runs.namespace, steps=200))
    runs.wait_step(name, 10)
    pods = {pod["metadata"]["uid"] for role in ("worker", "coordinator") for pod in runs.pods(name, role)}
    for deployment in ("footplate-operator", "footplate-api"):
        selector = f"app.kubernetes.io/component={deployment.removeprefix('footplate-')}"
        runs.kube.kubectl("delete", "pod", "-n", SYSTEM, "-l", selector, "--wait=false")
    cluster("stop", "kube-apiserver")
    time.sleep(OUTAGE_SECONDS)
    cluster("up")
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    assert status.get("restarts", 0) == 0
    assert {pod["metadata"]["uid"] for pod in runs.pods(name)} <= pods
    runs.whole_history(name, 200, late_seconds=180)
