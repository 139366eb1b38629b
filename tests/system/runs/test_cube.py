"""The example that is cut in all three ways trains on the cluster as it stands."""

from __future__ import annotations

import math

import pytest

from demo.kube import ROOT
from tests.support.runs import Runs

pytestmark = pytest.mark.system


@pytest.mark.long
def test_eight_ranks_share_samples_layers_and_matrices(runs: Runs, name: str) -> None:
    """2 x 2 x 2 ranks on two nodes: the grid is in the status, the loss falls, each step is there once."""
    manifest = (ROOT / "examples/cube.yaml").read_text().replace("cube", name)
    runs.kube.kubectl("apply", "-n", runs.namespace, "--filename", "-", stdin=manifest)
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    steps, world = status["progress"]["totalSteps"], status["world"]
    rows = runs.whole_history(name, steps)
    assert [world[axis] for axis in ("nodes", "ranks", "data", "pipeline", "tensor")] == [2, 8, 2, 2, 2]
    assert abs(rows[0]["loss"] - math.log(4096)) < 0.2
    assert rows[-1]["loss"] < math.log(4096) - 1.0
    assert status["checkpoint"]["latestStep"] == steps
