"""A run from apply to Succeeded, and what it leaves behind when it is deleted."""

from __future__ import annotations

import math
import time

import pytest

from cluster import images
from tests.support.runs import Runs, tiny

pytestmark = pytest.mark.system


def test_a_run_trains_to_succeeded(runs: Runs, name: str) -> None:
    """Loss falls well below ln(vocabulary), each step is in the history once, the checkpoint is durable."""
    runs.apply(tiny(name, runs.namespace, steps=60))
    status = runs.wait_phase(name, "Succeeded", seconds=120)
    rows = runs.whole_history(name, 60)
    assert abs(rows[0]["loss"] - math.log(4096)) < 0.2
    assert rows[-1]["loss"] < math.log(4096) - 1.0
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == 60
    assert status["checkpoint"]["latestStep"] == 60 and status["checkpoint"]["durable"]
    assert status["world"]["nodes"] == 2 and status["world"]["ranks"] == 4
    assert status.get("restarts", 0) == 0


def test_workers_stand_on_different_nodes_and_end_by_themselves(runs: Runs, name: str) -> None:
    """Two workers on two nodes; after the end no pod runs any more."""
    runs.apply(tiny(name, runs.namespace, steps=20))
    runs.wait_phase(name, "Succeeded", seconds=120)
    workers = runs.pods(name)
    assert len({pod["spec"]["nodeName"] for pod in workers}) == 2
    ended = time.monotonic()
    runs.until(
        "every pod to have ended",
        lambda: (
            True
            if all(
                pod["status"]["phase"] in ("Succeeded", "Failed")
                for role in ("worker", "coordinator")
                for pod in runs.pods(name, role)
            )
            else None
        ),
        name,
        seconds=10,
    )
    assert time.monotonic() - ended <= 10


def test_deletion_leaves_nothing(runs: Runs, name: str) -> None:
    """No finalizer, and no child of any kind a few seconds later."""
    runs.apply(tiny(name, runs.namespace, steps=2000))
    runs.wait_phase(name, "Running", seconds=90)
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
    key = images.keyed_names(images.table())["api"].rpartition(":")[2]
    assert runs.ask.api("/version")["revision"] == key
