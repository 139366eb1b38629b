"""Nodes come and go in a run that trains, and it goes on from a checkpoint or at once."""

from __future__ import annotations

import pytest

from tests.support.processes import hold, patient, release, wait_joined
from tests.support.runs import Json, Runs, changed, check_same_history, tiny

pytestmark = pytest.mark.system


def world(runs: Runs, name: str) -> Json:
    """Who trains, by the status; empty before anybody does."""
    found: Json = runs.status(name).get("world", {})
    return found


@pytest.mark.long
def test_a_spare_steps_in_and_a_scaled_run_grows_at_a_checkpoint(
    runs: Runs, name: str, undisturbed: list[Json]
) -> None:
    """The lost worker's place goes to the pod that waited; `kubectl scale` restarts no pod."""
    size = {"profile": "local-cpu", "nodes": 1, "minNodes": 1, "maxNodes": 2, "spares": 1}
    manifest = tiny(name, runs.namespace, steps=len(undisturbed), nodes=1)
    runs.apply(patient(changed(manifest, "compute", size)))
    worker = runs.wait_workers(name, 1)[0]["metadata"]["name"]
    hold(runs, worker, nodes=1, step=10)
    runs.until("a ready spare", lambda: world(runs, name).get("spares") == 1 or None, name, seconds=180)
    [spare] = (pod["metadata"] for pod in runs.pods(name, "spare"))
    runs.kube.kubectl("delete", "pod", worker, "-n", runs.namespace, "--grace-period=0", "--force")

    def stepped_in() -> bool | None:
        return spare["uid"] in {pod["metadata"]["uid"] for pod in runs.pods(name)} or None

    runs.until("the spare to be the worker", stepped_in, name, seconds=60)
    hold(runs, spare["name"], nodes=1)
    runs.kube.kubectl("scale", "trun", name, "-n", runs.namespace, "--replicas=2")
    wait_joined(runs, spare["name"], index=1)
    release(runs, spare["name"])

    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert status["world"]["nodes"] == 2
    assert stepped_in(), "the pod that stepped in trained to the end"
    assert (status["failures"], status["restarts"]) == ({"NodeLost": 1}, 1)
    assert [attempt.get("reason") for attempt in status["attempts"]][1:2] == ["Resized"]
