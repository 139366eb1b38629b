"""A node that loses its power takes a worker with it; the run goes on elsewhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from demo.kube import ROOT
from tests.support.runs import Json, Runs, check_same_history, tiny

pytestmark = pytest.mark.system


@pytest.fixture
def mended() -> Iterator[None]:
    """Whatever a test does to a node is mended after it."""
    yield
    subprocess.run(["python3", "dev/cluster", "up"], cwd=ROOT, check=True)


def test_a_lost_node_is_left_behind(runs: Runs, name: str, mended: None, undisturbed: list[Json]) -> None:
    """The substitute starts before Kubernetes has given the node up, and no loss changes."""
    runs.apply(tiny(name, runs.namespace, steps=len(undisturbed)))
    runs.wait_step(name, 25)
    victim = next(pod for pod in runs.pods(name) if pod["metadata"]["labels"]["footplate.dev/index"] == "1")
    node = victim["spec"]["nodeName"]
    subprocess.run(["python3", "dev/cluster", "kill-node", node], cwd=ROOT, check=True)
    status = runs.wait_phase(name, "Succeeded", seconds=180)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert status["failures"] == {"NodeLost": 1}
    finished = [pod for pod in runs.pods(name) if pod["status"]["phase"] == "Succeeded"]
    assert {pod["metadata"]["labels"]["footplate.dev/index"] for pod in finished} == {"0", "1"}
    assert node not in {pod["spec"]["nodeName"] for pod in finished}
