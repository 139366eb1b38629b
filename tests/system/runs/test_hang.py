"""A rank that stands still on the cluster: where all stand is written down, and they start again."""

from __future__ import annotations

import pytest

from tests.support.processes import hold
from tests.support.runs import Json, Runs, changed, check_same_history, tiny

pytestmark = [pytest.mark.system, pytest.mark.long]

FLOOR_SECONDS = 15


def test_a_rank_that_stands_still_restarts_in_place(runs: Runs, name: str, undisturbed: list[Json]) -> None:
    """The log holds the stacks of the ranks that wait for it; the same pods go on, and no loss changes."""
    manifest = tiny(name, runs.namespace, steps=len(undisturbed))
    runs.apply(changed(manifest, "resilience.hang.floorSeconds", FLOOR_SECONDS))
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in runs.wait_workers(name, 2)}
    held, other = before
    hold(runs, held, nodes=2, step=15)
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in runs.pods(name)} == before
    assert (status["failures"], status["restarts"]) == ({"Hang": 1}, 1)
    told = status["attempts"][0]
    assert (told["cause"], told["reason"]) == ("Hang", "ProgressDeadlineExceeded")
    assert "no rank has made progress for" in told["message"]
    log = runs.kube.kubectl("logs", other, "-n", runs.namespace)
    assert all(f"[rank {rank}] Thread 0x" in log for rank in (2, 3))
    assert "footplate_trainer/loop/" in log
