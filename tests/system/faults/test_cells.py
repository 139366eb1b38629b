"""Some cells of the fault matrix, each of a kind of its own; `make faults` plays all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

import pytest

from footplate_contracts.v1alpha1.training import Stage
from tests.support.matrix import FAULTS, FEW
from tests.support.runs import Runs
from tests.system.conftest import HARMED, KeptOnce
from tests.system.faults.ground import Ground, ground_of
from tests.system.faults.over_cluster import CLUSTER
from tests.system.faults.play import play, undisturbed
from tests.system.faults.scenes import Cell, scenes
from tests.system.faults.training import stage_of

pytestmark = [pytest.mark.system, pytest.mark.alone(last=True)]


@pytest.fixture(scope="module")
def ground(runs: Runs) -> Iterator[Ground]:
    """The cluster as cells need it."""
    with ground_of(runs) as found:
        yield found


@pytest.fixture(scope="module")
def expected(ground: Ground, kept_once: KeptOnce) -> Mapping[Stage, list[dict[str, object]]]:
    """Histories of runs that nothing happens to, of each stage that the cells train; one for all workers."""
    stages = {stage_of(phase) for _, phase in FEW}
    return {
        stage: kept_once(f"calm-{stage.value}", lambda stage=stage: undisturbed(ground, stage))
        for stage in stages
    }


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(scene, id="-".join(dict.fromkeys(fault.name for fault, _ in scene)).replace(" ", "-"))
        for scene in scenes([(FAULTS[name], phase) for name, phase in FEW], CLUSTER.keys())
    ],
)
def test_cells(ground: Ground, expected: Mapping[Stage, list[dict[str, object]]], scene: list[Cell]) -> None:
    """Each run goes on to its end, with the history of one that nothing happened to."""
    if any(fault.name in CLUSTER for fault, _ in scene):
        HARMED.touch()  # the next test mends what is left of it
    results = play(ground, scene, expected, uuid.uuid4().hex[:5])
    for result in results:
        print(f"{result.fault}, {result.phase}: {result.seconds} s {result.causes} ({result.proof})")
    assert not [result for result in results if not result.green]
