"""The cluster as the tests find it: `make install` has run, the data is packed once."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from demo.kube import ROOT, Kube
from tests.support.runs import Json, Runs, runs_in, tiny
from tests.support.settle import settle

NAMESPACE = "footplate-tests"
UNDISTURBED_STEPS = 120


@pytest.fixture(scope="session")
def kube() -> Kube:
    """kubectl and helm of the cluster that `make install` left."""
    return Kube.of_cluster_tool()


@pytest.fixture(scope="session")
def runs(kube: Kube) -> Iterator[Runs]:
    """A namespace with the shared volume and the packed Python documentation in it."""
    with runs_in(kube, NAMESPACE, wait=False) as found:
        yield found


@pytest.fixture
def mended(kube: Kube) -> Iterator[None]:
    """Whatever a test does to nodes and the control plane is mended after it, whole and for all to use."""
    yield
    subprocess.run(["python3", "dev/cluster", "up"], cwd=ROOT, check=True)
    settle(kube)


@dataclass(frozen=True)
class Finished:
    """A run that nothing happened to, after its end."""

    status: Json
    rows: list[Json]
    workers: list[Json]
    seconds_to_the_pods_end: float  # after Succeeded was seen


@pytest.fixture(scope="session")
def finished(runs: Runs) -> Iterator[Finished]:
    """A run of UNDISTURBED_STEPS, which the tests that hurt one compare theirs with."""
    name = runs.apply(tiny(f"undisturbed-{uuid.uuid4().hex[:8]}", runs.namespace, steps=UNDISTURBED_STEPS))
    status = runs.wait_phase(name, "Succeeded", seconds=300)
    succeeded = time.monotonic()

    def ended() -> bool | None:
        pods = [pod for role in ("worker", "coordinator") for pod in runs.pods(name, role)]
        return all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods) or None

    runs.until("every pod to have ended", ended, name, seconds=120)
    seconds = time.monotonic() - succeeded
    yield Finished(status, runs.whole_history(name, UNDISTURBED_STEPS), runs.pods(name), seconds)
    runs.delete(name)


@pytest.fixture(scope="session")
def undisturbed(finished: Finished) -> list[Json]:
    """The history of a run of UNDISTURBED_STEPS that nothing happened to."""
    return finished.rows


@pytest.fixture
def name(request: pytest.FixtureRequest, runs: Runs) -> Iterator[str]:
    """A run name of this test's own; the run is deleted afterwards."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    yield unique
    runs.delete(unique)
