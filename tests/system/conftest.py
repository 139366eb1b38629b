"""The cluster as the tests find it: `make install` has run, the data is packed once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from demo.kube import Kube
from tests.support.runs import Json, Runs, runs_in, tiny

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


@pytest.fixture(scope="session")
def undisturbed(runs: Runs) -> list[Json]:
    """The history of a run of UNDISTURBED_STEPS that nothing happened to."""
    name = f"undisturbed-{uuid.uuid4().hex[:8]}"
    runs.apply(tiny(name, runs.namespace, steps=UNDISTURBED_STEPS))
    runs.wait_phase(name, "Succeeded", seconds=180)
    rows = runs.whole_history(name, UNDISTURBED_STEPS)
    runs.delete(name)
    return rows


@pytest.fixture
def name(request: pytest.FixtureRequest, runs: Runs) -> Iterator[str]:
    """A run name of this test's own; the run is deleted afterwards."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    yield unique
    runs.delete(unique)
