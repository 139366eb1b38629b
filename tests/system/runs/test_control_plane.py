"""Losing the control plane costs a run nothing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.kube import ROOT
from footplate_operator.runtime import throttle
from tests.support.processes import wait_for
from tests.support.runs import Runs, tiny

pytestmark = [pytest.mark.system, pytest.mark.long]

SYSTEM = "footplate-system"
OUTAGE_SECONDS = 5.0
OPERATOR = ("deployment/footplate-operator", "-n", SYSTEM)
# Seconds between two writes of a status: from the last act of one leader to the first of the next, and those
# for which a leader lets bare progress wait.
SILENT = 5.0 + 1.2 * throttle.FEW_SECONDS


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

    def led_by_another(before: tuple[str, ...]) -> bool:
        lease = runs.kube.get("lease", "footplate-operator", "-n", SYSTEM) or {}
        holder = str(lease.get("spec", {}).get("holderIdentity", ""))
        return bool(holder) and not holder.startswith(before)

    def update() -> None:
        before = _pods_of_operator(runs)
        kubectl("rollout", "restart", *OPERATOR)
        rolled_out()
        wait_for(lambda: led_by_another(before), 60)

    try:
        kubectl("scale", *OPERATOR, "--replicas=2")
        rolled_out()
        runs.apply(tiny(name, runs.namespace, steps=600))
        runs.wait_step(name, 20)
        pods = {pod["metadata"]["uid"] for role in ("worker", "coordinator") for pod in runs.pods(name, role)}
        longest = _longest_silence(runs, name, update)
        print(f"\nlongest time between two status writes of a rolling update: {longest:.1f} s")
        assert longest <= SILENT
        assert runs.status(name)["phase"] == "Running"
        after = [*runs.pods(name), *runs.pods(name, "coordinator")]
        assert {pod["metadata"]["uid"] for pod in after} == pods
        assert runs.wait_phase(name, "Succeeded", seconds=300).get("restarts", 0) == 0
    finally:
        kubectl("scale", *OPERATOR, "--replicas=1")
        rolled_out()


@pytest.mark.alone(last=True)
def test_a_certificate_that_somebody_deletes_is_made_anew(runs: Runs, name: str, mended: None) -> None:
    """The next pod of the API waits for it, and coordinators keep their rows until there is one."""
    kubectl, secret = runs.kube.kubectl, ("secret", "footplate-api-tls", "-n", SYSTEM)
    runs.apply(tiny(name, runs.namespace, steps=120))
    runs.wait_step(name, 10)
    before = runs.kube.get(*secret) or {}
    kubectl("delete", *secret)
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=api")
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    assert status.get("restarts", 0) == 0
    runs.whole_history(name, 120, late_seconds=180)
    after = runs.kube.get(*secret) or {}
    assert after["data"]["tls.crt"] != before["data"]["tls.crt"]


def _longest_silence(runs: Runs, name: str, act: Callable[[], None]) -> float:
    """Seconds for which a status was not written, at most, during `act` and until one write after it."""
    last, longest, after = time.monotonic(), 0.0, False
    with ThreadPoolExecutor(1) as pool:
        done, written = pool.submit(act), ""
        while not after:
            now, over = runs.status(name)["progress"]["lastUpdatedTime"], done.done()
            longest = max(longest, time.monotonic() - last)
            if now != written:
                written, last, after = now, time.monotonic(), over
            time.sleep(0.1)
        done.result()
    return longest


def _pods_of_operator(runs: Runs) -> tuple[str, ...]:
    found = runs.kube.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator") or {"items": []}
    return tuple(pod["metadata"]["name"] for pod in found["items"])
