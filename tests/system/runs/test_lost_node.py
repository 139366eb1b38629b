"""A node that loses its power takes a worker with it; the run goes on elsewhere."""

from __future__ import annotations

import subprocess

import pytest

from demo.kube import ROOT
from tests.support.inside import hold
from tests.support.placement import Room, index_of, node_of
from tests.support.runs import Json, Runs, changed, check_same_history, tiny

pytestmark = pytest.mark.system


@pytest.mark.alone
def test_a_lost_node_is_left_behind(
    runs: Runs, name: str, room: Room, mended: None, undisturbed: list[Json]
) -> None:
    """The substitute starts before Kubernetes has given the node up, and no loss changes."""
    manifest = tiny(name, runs.namespace, steps=len(undisturbed))
    victim, stays = room.apply_apart(runs, changed(manifest, "compute.profile", room.profile))
    room.everywhere()
    node = node_of(victim)
    hold(runs, stays["metadata"]["name"], nodes=2, step=25)
    subprocess.run(["python3", "dev/cluster", "kill-node", node], cwd=ROOT, check=True)
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert status["failures"] == {"NodeLost": 1}
    known = {pod["metadata"]["uid"] for pod in (victim, stays)}
    [substitute] = [pod for pod in runs.pods(name) if pod["metadata"]["uid"] not in known]
    assert index_of(substitute) == index_of(victim)
    assert node_of(substitute) not in ("", node)
