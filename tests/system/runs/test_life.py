"""A run from apply to Succeeded, and what it leaves behind when it is deleted."""

from __future__ import annotations

import math

import pytest

from cluster.images import builder, definitions
from tests.support.runs import Runs, tiny
from tests.system.conftest import Finished

pytestmark = pytest.mark.system


def test_a_run_trains_to_succeeded(finished: Finished) -> None:
    """Loss falls well below ln(vocabulary), each step is in the history once, the checkpoint is durable."""
    rows, status = finished.rows, finished.status
    assert abs(rows[0]["loss"] - math.log(4096)) < 0.2
    assert rows[-1]["loss"] < math.log(4096) - 1.0
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == len(rows)
    assert status["checkpoint"]["latestStep"] == len(rows) and status["checkpoint"]["durable"]
    assert status["world"]["nodes"] == 2 and status["world"]["ranks"] == 4
    assert status.get("restarts", 0) == 0


def test_workers_stand_on_different_nodes_and_end_by_themselves(finished: Finished) -> None:
    """Two workers on two nodes; ten seconds after the end no pod runs any more."""
    assert len({pod["spec"]["nodeName"] for pod in finished.workers}) == 2
    assert finished.seconds_to_the_pods_end <= 10


def test_deletion_leaves_nothing(runs: Runs, name: str) -> None:
    """No finalizer, and no child of any kind a few seconds later."""
    runs.apply(tiny(name, runs.namespace, steps=2000))
    runs.wait_phase(name, "Running", seconds=180)
    found = runs.run(name)
    assert found is not None and "finalizers" not in found["metadata"]
    runs.delete(name)
    kinds = "pods,services,configmaps,secrets,controllerrevisions,poddisruptionbudgets"

    def gone() -> bool | None:
        listed = runs.kube.get(kinds, "-n", runs.namespace, "-l", f"footplate.dev/run={name}")
        return None if listed and listed["items"] else True

    runs.until("all children to be gone", gone, name, seconds=30)


def test_the_api_names_the_sources_it_was_built_from(runs: Runs) -> None:
    """The revision in /version is the content key of the image."""
    key = builder.keyed_names(definitions.load())["api"].rpartition(":")[2]
    version = runs.until("the API to answer", lambda: runs.api.get("/version"), "no run", seconds=60)
    assert version["revision"] == key
