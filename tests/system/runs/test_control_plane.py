"""Losing the control plane costs a run nothing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.kube import ROOT
from tests.support.runs import Runs, tiny

pytestmark = [pytest.mark.system, pytest.mark.long]

SYSTEM = "footplate-system"
OUTAGE_SECONDS = 5.0
OPERATOR = ("deployment/footplate-operator", "-n", SYSTEM)
HANDED_OVER = 5.0  # seconds from the last act of one leader to the first of the next


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


@pytest.mark.alone(last=True)
def test_a_rolling_update_of_two_replicas(runs: Runs, name: str, mended: None) -> None:
    """Somebody always acts: the status is written as often as ever, and no pod of a run notices."""
    kubectl = runs.kube.kubectl

    def rolled_out() -> None:
        kubectl("rollout", "status", *OPERATOR, "--timeout=180s")

    def update() -> None:
        kubectl("rollout", "restart", *OPERATOR)
        rolled_out()

    try:
        kubectl("scale", *OPERATOR, "--replicas=2")
        rolled_out()
        runs.apply(tiny(name, runs.namespace, steps=600))
        runs.wait_step(name, 20)
        pods = {pod["metadata"]["uid"] for role in ("worker", "coordinator") for pod in runs.pods(name, role)}
        longest = _longest_silence(runs, name, update)
        print(f"\nlongest time between two status writes of a rolling update: {longest:.1f} s")
        assert longest <= HANDED_OVER
        after = [*runs.pods(name), *runs.pods(name, "coordinator")]
        assert {pod["metadata"]["uid"] for pod in after} == pods
        assert runs.wait_phase(name, "Succeeded", seconds=300).get("restarts", 0) == 0
    finally:
        kubectl("scale", *OPERATOR, "--replicas=1")
        rolled_out()


def _longest_silence(runs: Runs, name: str, act: Callable[[], None]) -> float:
    """Seconds for which the status of a run that trains was not written, at most, while `act` was done."""
    last, longest = time.monotonic(), 0.0
    with ThreadPoolExecutor(1) as pool:
        done, written = pool.submit(act), ""
        while not done.done():
            now = runs.status(name)["progress"]["lastUpdatedTime"]
            if now != written:
                written, last = now, time.monotonic()
            longest = max(longest, time.monotonic() - last)
            time.sleep(0.1)
        done.result()
    return longest
