"""A node that loses its power takes a worker with it; the run goes on elsewhere."""

from __future__ import annotations

import subprocess

import pytest

from demo.kube import ROOT
from tests.support.runs import Json, Runs, check_same_history, tiny

pytestmark = pytest.mark.system


def second_workers(runs: Runs, name: str) -> list[Json]:
    """Whoever has place 1: the worker, and its substitutes."""
    return [pod for pod in runs.pods(name) if pod["metadata"]["labels"]["footplate.dev/index"] == "1"]


@pytest.mark.alone
def test_a_lost_node_is_left_behind(runs: Runs, name: str, mended: None, undisturbed: list[Json]) -> None:
    """The substitute starts before Kubernetes has given the node up, and no loss changes."""
    runs.apply(tiny(name, runs.namespace, steps=len(undisturbed)))
    runs.wait_step(name, 25)
    [victim] = second_workers(runs, name)
    node = victim["spec"]["nodeName"]
    subprocess.run(["python3", "dev/cluster", "kill-node", node], cwd=ROOT, check=True)
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    # Where the API stood on that node too, Kubernetes takes half a minute to start it elsewhere.
    check_same_history(runs.whole_history(name, len(undisturbed), late_seconds=180), undisturbed)
    assert status["failures"] == {"NodeLost": 1}
    uid = victim["metadata"]["uid"]
    [substitute] = [pod for pod in second_workers(runs, name) if pod["metadata"]["uid"] != uid]
    assert substitute["spec"]["nodeName"] not in ("", node)
