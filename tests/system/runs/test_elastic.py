"""Nodes come and go in a run that trains, and it goes on from a checkpoint or at once."""

from __future__ import annotations

import pytest

from tests.support.runs import Json, Runs, changed, tiny

pytestmark = pytest.mark.system

STEPS = 300


def world(runs: Runs, name: str) -> Json:
    """Who trains, by the status; empty before anybody does."""
    found: Json = runs.status(name).get("world", {})
    return found


def test_a_spare_steps_in_and_a_scaled_run_grows_at_a_checkpoint(runs: Runs, name: str) -> None:
    """The lost worker's place goes to the pod that waited; `kubectl scale` restarts no pod."""
    size = {"profile": "local-cpu", "nodes": 1, "minNodes": 1, "maxNodes": 2, "spares": 1}
    runs.apply(changed(tiny(name, runs.namespace, steps=STEPS, nodes=1), "compute", size))
    runs.until("a ready spare", lambda: world(runs, name).get("spares") == 1 or None, name, seconds=60)
    runs.wait_step(name, 10)
    [worker], [spare] = runs.pods(name), runs.pods(name, "spare")
    runs.kube.kubectl(
        *("delete", "pod", worker["metadata"]["name"], "-n", runs.namespace), "--grace-period=0", "--force"
    )

    def stepped_in() -> Json | None:
        pods = {pod["metadata"]["uid"]: pod for pod in runs.pods(name)}
        return pods.get(spare["metadata"]["uid"])

    runs.until("the spare to be the worker", stepped_in, name, seconds=30)
    runs.kube.kubectl("scale", "trun", name, "-n", runs.namespace, "--replicas=2")
    runs.until("two nodes to train", lambda: world(runs, name).get("nodes") == 2 or None, name, seconds=60)

    status = runs.wait_phase(name, "Succeeded", seconds=120)
    runs.whole_history(name, STEPS)
    assert stepped_in() is not None, "the pod that stepped in trained to the end"
    assert (status["failures"], status["restarts"]) == ({"NodeLost": 1}, 1)
    assert [attempt.get("reason") for attempt in status["attempts"]][1:2] == ["Resized"]
