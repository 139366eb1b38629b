"""A node that loses its power takes a worker with it; the run goes on elsewhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from demo.kube import ROOT
from tests.support.runs import Runs, tiny

pytestmark = pytest.mark.system

STEPS = 80


@pytest.fixture
def mended() -> Iterator[None]:
    """Whatever a test does to a node is mended after it."""
    yield
    subprocess.run(["python3", "dev/cluster", "up"], cwd=ROOT, check=True)


def test_a_lost_node_is_left_behind(runs: Runs, name: str, mended: None) -> None:
    """The substitute starts before Kubernetes has given the node up, and every step is trained once."""
    runs.apply(tiny(name, runs.namespace, steps=STEPS))
    runs.wait_step(name, 25)
    victim = next(pod for pod in runs.pods(name) if pod["metadata"]["labels"]["footplate.dev/index"] == "1")
    node = victim["spec"]["nodeName"]
    subprocess.run(["python3", "dev/cluster", "kill-node", node], cwd=ROOT, check=True)
    status = runs.wait_phase(name, "Succeeded", seconds=180)
    runs.whole_history(name, STEPS)
    assert status["failures"] == {"NodeLost": 1}
    substitutes = [pod for pod in runs.pods(name) if pod["metadata"]["uid"] != victim["metadata"]["uid"]]
    assert all(
        pod["spec"]["nodeName"] != node for pod in substitutes if pod["status"]["phase"] == "Succeeded"
    )
