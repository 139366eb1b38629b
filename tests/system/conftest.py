"""The cluster as the tests find it: `make install` has run, each worker packs the data once.

A run spends much of its time waiting for pods, so three workers of pytest-xdist share the cluster, each
with a namespace of its own. A test that takes away what other runs stand on, or has a bar in seconds that
another run would break, is marked `alone`: it has the cluster to itself, and comes after all others.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from demo.kube import ROOT, Kube
from tests.support.placement import Room, room_in
from tests.support.runs import Json, Runs, runs_in, tiny
from tests.support.settle import settle

KeptOnce: TypeAlias = Callable[[str, Callable[[], object]], Any]

UNDISTURBED_STEPS = 80
# The machine's, as the cluster is.
CLUSTER_LOCK = Path(tempfile.gettempdir()) / "footplate-system-tests.lock"
HARMED = CLUSTER_LOCK.with_suffix(".harmed")  # exists from a test that does harm until the next one


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the tests so that no worker waits for another; those that run alone come last."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """When a test comes.

    While a worker trains the chain or the undisturbed run, there are others for the others; short tests
    come at the end, so that all workers end at about the same time. The last of those that run alone
    is the one whose harm takes longest to mend, as nothing is mended after it.
    """
    fixtures = getattr(item, "fixturenames", ())
    if (alone := item.get_closest_marker("alone")) is not None:
        return 5 if alone.kwargs.get("last") else 4
    if item.path.parent.name == "cluster":
        return 3
    if "undisturbed" in fixtures:
        return 2
    return 0 if "chain" in fixtures else 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Lets a test, with all that is set up and taken down around it, wait until the cluster is its to use."""
    if item.get_closest_marker("system") is None:
        return (yield)
    with locked(CLUSTER_LOCK, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH):
        return (yield)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Mends the cluster, whole and for all to use, if a test before this one has harmed it.

    A fault of the mending is one of this test, which CI tries once more.
    """
    if item.get_closest_marker("system") is not None and HARMED.exists():
        subprocess.run(["python3", "dev/cluster", "up"], cwd=ROOT, check=True)
        settle(Kube.of_cluster_tool())
        HARMED.unlink(missing_ok=True)  # workers may begin on a cluster that an earlier session harmed


@contextmanager
def locked(path: Path, mode: int) -> Iterator[None]:
    """Holds the lock of a file for the block; `mode` is fcntl's LOCK_SH or LOCK_EX."""
    with path.open("a") as file:
        fcntl.flock(file, mode)
        yield


@pytest.fixture(scope="session")
def kube() -> Kube:
    """kubectl and helm of the cluster that `make install` left."""
    return Kube.of_cluster_tool()


@pytest.fixture(scope="session")
def runs(kube: Kube, worker_id: str) -> Iterator[Runs]:
    """A namespace with the shared volume and the packed Python documentation in it."""
    with runs_in(kube, f"footplate-tests-{worker_id}", wait=False) as found:
        yield found


@pytest.fixture
def mended() -> None:
    """Whatever a test does to nodes and the control plane is mended before the next test, however it ends.

    After the last one the cluster is taken down: nobody waits for it to be whole.
    """
    HARMED.touch()


@pytest.fixture(scope="session")
def kept_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> KeptOnce:
    """Makes what one worker has to make for all of them; JSON, by its name."""
    own = tmp_path_factory.getbasetemp()
    folder = own if worker_id == "master" else own.parent

    def made(name: str, make: Callable[[], object]) -> Any:
        kept = folder / f"{name}.json"
        with locked(kept.with_suffix(".lock"), fcntl.LOCK_EX):
            if not kept.exists():
                kept.write_text(json.dumps(make()))
        return json.loads(kept.read_text())

    return made


@pytest.fixture(scope="session")
def undisturbed(runs: Runs, kept_once: KeptOnce) -> list[Json]:
    """The history of a run of UNDISTURBED_STEPS that nothing happened to; one for all workers."""
    found: list[Json] = kept_once("undisturbed", lambda: _train_undisturbed(runs))
    return found


def _train_undisturbed(runs: Runs) -> list[Json]:
    name = runs.apply(tiny(f"undisturbed-{uuid.uuid4().hex[:8]}", runs.namespace, steps=UNDISTURBED_STEPS))
    runs.wait_phase(name, "Succeeded", seconds=300)
    rows = runs.whole_history(name, UNDISTURBED_STEPS)
    runs.delete(name)
    return rows


@pytest.fixture
def room(kube: Kube) -> Iterator[Room]:
    """Where workers may be placed, which a test narrows; everywhere at first."""
    with room_in(kube) as found:
        yield found


@pytest.fixture
def name(request: pytest.FixtureRequest, runs: Runs) -> Iterator[str]:
    """A run name of this test's own; the run is deleted afterwards."""
    unique = f"t{uuid.uuid4().hex[:8]}"
    yield unique
    runs.delete(unique)
