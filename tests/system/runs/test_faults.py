"""Faults in mid-run: the finished run is the one that an undisturbed one would have been.

Where a fault comes from outside, a rank is held until it has come: so it comes in mid-run at any speed.
"""

from __future__ import annotations

import random

import pytest

from tests.support.inside import hold, kill_rank, release
from tests.support.runs import Json, Runs, check_same_history, tiny

pytestmark = pytest.mark.system


def test_a_killed_worker_pod_changes_no_loss(runs: Runs, name: str, undisturbed: list[Json]) -> None:
    """The pod goes at a random step; a substitute joins and the losses follow the undisturbed run."""
    step = random.randint(10, len(undisturbed) // 3)  # before and after the first checkpoint
    print(f"killing a worker pod from step {step}")
    runs.apply(tiny(name, runs.namespace, steps=len(undisturbed)))
    workers = [pod["metadata"]["name"] for pod in runs.wait_workers(name, 2)]
    victim, stays = random.sample(workers, 2)
    hold(runs, stays, nodes=2, step=step)
    runs.kube.kubectl("delete", "pod", victim, "-n", runs.namespace, "--grace-period=0", "--force")
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert status["restarts"] == 1
    assert [attempt.get("cause") for attempt in status["attempts"]][:1] == ["NodeLost"]
    assert victim not in {pod["metadata"]["name"] for pod in runs.pods(name)}


def test_a_killed_rank_restarts_in_place(runs: Runs, name: str, undisturbed: list[Json]) -> None:
    """The same pods go on: no pod is created for a rank's death."""
    runs.apply(tiny(name, runs.namespace, steps=len(undisturbed)))
    pods = runs.wait_workers(name, 2)
    before = {pod["metadata"]["uid"] for pod in pods}
    kill_rank(runs, pods[0]["metadata"]["name"], nodes=2, step=15)
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert status["restarts"] == 1
    assert {pod["metadata"]["uid"] for pod in runs.pods(name)} == before


def test_suspend_takes_a_checkpoint_and_resume_goes_on(
    runs: Runs, name: str, undisturbed: list[Json]
) -> None:
    """Suspended means: no pod, a durable checkpoint at the last step; resumed, the losses go on."""
    runs.apply(tiny(name, runs.namespace, steps=len(undisturbed)))
    held = runs.wait_workers(name, 2)[0]["metadata"]["name"]
    hold(runs, held, nodes=2, step=25)
    runs.patch(name, {"suspend": True})
    runs.wait_phase(name, "Suspending")
    release(runs, held)
    status = runs.wait_phase(name, "Suspended", seconds=120)
    assert status["checkpoint"]["latestStep"] == status["progress"]["step"] >= 25
    runs.until("no pod to run", lambda: True if not runs.pods(name) else None, name, seconds=120)
    runs.patch(name, {"suspend": False})
    runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
