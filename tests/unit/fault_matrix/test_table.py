"""The one table of faults and phases: what is chosen of it covers what it says it covers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from footplate_contracts.runconfig import World
from footplate_contracts.v1alpha1.training import Stage
from footplate_elastic.coordinator.timing import STACKS
from footplate_trainer.manifest.run_file import read_run
from tests.support.matrix import (
    CELLS,
    FAULTS,
    FEW,
    ON_PODS,
    POD_CELLS,
    SAMPLE,
    Family,
    Fault,
    Phase,
    applicable,
    bound_on_pods,
    on_pods,
)
from tests.support.runs import changed
from tests.system.faults.over_cluster import CLUSTER
from tests.system.faults.over_runs import RUNS
from tests.system.faults.play import name_of
from tests.system.faults.scenes import AT_MOST, AT_MOST_OF, scenes
from tests.system.faults.stand import limits
from tests.system.faults.training import COURSES, stage_of, trained


def test_at_least_120_cells_remain() -> None:
    assert len(POD_CELLS) >= 120


def test_the_sample_covers_every_family_and_every_phase() -> None:
    assert len(SAMPLE) >= 25
    assert {FAULTS[name].family for name, _ in SAMPLE} == set(Family)
    assert {phase for _, phase in SAMPLE} == {phase for _, phase in POD_CELLS}


@pytest.mark.parametrize("chosen", [pytest.param(SAMPLE, id="sample"), pytest.param(FEW, id="few")])
def test_what_is_chosen_is_played_on_pods(chosen: tuple[tuple[str, Phase], ...]) -> None:
    assert len(set(chosen)) == len(chosen)
    assert {(FAULTS[name], phase) for name, phase in chosen} <= set(POD_CELLS)


def test_what_samples_is_hit_while_it_does() -> None:
    sampling = {phase: stage_of(phase) for _, phase in POD_CELLS if stage_of(phase) is not Stage.PRETRAIN}
    assert sampling == {Phase.ROLLOUT: Stage.GRPO, Phase.SCORING: Stage.PPO}


@pytest.mark.parametrize("stage", COURSES)
def test_each_stage_of_cells_is_a_run_with_a_rollout_in_the_middle(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(trained(stage, "cell", "here")))
    config = read_run(file, ()).config(World())
    course = COURSES[stage]
    assert course.every <= course.first < course.steps - course.every
    if stage is not Stage.PRETRAIN:
        assert config.rollout is not None and config.rollout.generation_batch_size is not None
        updates = config.rollout.generation_batch_size // config.training.global_batch_size
        assert course.first % updates == 0, "a rollout begins after the step from which on it is hit"
        assert course.every % updates, "a checkpoint stands in the middle of one"


_SHORTENED: Final = ("rank stopped", "volume hangs", "node cut off from one other")


@pytest.mark.parametrize(
    "phase", [pytest.param(phase, id=f"{stage_of(phase).value}-{phase.value}") for phase in Phase]
)
def test_a_run_takes_the_bounds_by_which_its_hang_is_noticed_in_time(phase: Phase, tmp_path: Path) -> None:
    stage, file = stage_of(phase), tmp_path / "run.json"
    file.write_text(json.dumps(changed(trained(stage, "cell", "here"), "resilience.hang", limits(stage))))
    read_run(file, ())
    allowed = min(bound_on_pods(FAULTS[name]) for name in _SHORTENED)
    assert max(limits(stage).values()) + STACKS < allowed


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS.values()])
def test_a_fault_has_one_cause_and_a_reason_for_each_other(fault: Fault) -> None:
    others = dict(fault.also)
    assert fault.cause is not None or not others
    assert fault.cause not in others and all(len(reason) > 20 for reason in others.values())
    assert fault.causes == ({fault.cause} if fault.cause else set()) | others.keys()


_SECONDS: Final[dict[float, set[str]]] = {  # of all others 20
    30.0: {"SIGTERM storm", "node cordoned", "node drained", "node object deleted", "watch torn"},
    40.0: {"coordinator cut off", "coordinator stopped", "operator killed", "volume full"},
    60.0: {
        "agent stopped",
        "cordon without room elsewhere",
        "etcd paused",
        "kubelet stopped",
        "leader stopped",
        "node cut off",
        "node cut off from one other",
        "node powered off",
        "rank stopped",
        "two nodes powered off",
        "volume hangs",
    },
    90.0: {"API server unwell", "image gone for the substitute"},
    105.0: {"no room"},
    630.0: {"quota refuses half"},
}


def test_bounds_are_not_wider_than_they_were() -> None:
    known = {name: seconds for seconds, names in _SECONDS.items() for name in names}
    assert {name: fault.seconds for name, fault in FAULTS.items()} == dict.fromkeys(FAULTS, 20.0) | known
    assert ON_PODS == 15.0
    assert all(bound_on_pods(fault) == fault.seconds + 15.0 for fault in FAULTS.values())
    assert all(0 < fault.detected <= bound_on_pods(fault) for fault in FAULTS.values())


def test_make_test_plays_eight() -> None:
    assert len(FEW) == 8


def test_each_fault_of_pods_has_one_way_to_come() -> None:
    assert {fault.name for fault, _ in POD_CELLS} <= set(RUNS) | set(CLUSTER)
    assert not set(RUNS) & set(CLUSTER)


@pytest.mark.parametrize("cell", [(fault, phase) for fault in FAULTS.values() for phase in Phase])
def test_a_reason_excludes_or_there_is_a_cell(cell: tuple[object, Phase]) -> None:
    fault, phase = cell
    known = next(known for known in FAULTS.values() if known is fault)
    assert bool(applicable(known, phase)) is (cell not in CELLS)
    if cell in POD_CELLS:
        assert not on_pods(known, phase)


def test_a_fault_of_the_whole_cluster_comes_once_and_others_share_it() -> None:
    chosen = [
        (FAULTS[name], phase)
        for phase in (Phase.STEPPING, Phase.RESTARTING)
        for name in ("node powered off", "rank killed", "operator killed")
    ]
    own, node, operator = scenes(chosen, CLUSTER.keys())
    assert {fault.name for fault, _ in own} == {"rank killed"} and len(own) == 2
    assert {fault.name for fault, _ in node} == {"node powered off"} and len(node) == 2
    assert {fault.name for fault, _ in operator} == {"operator killed"} and len(operator) == 2


def test_scenes_are_small_enough_to_be_kept_now_and_then_and_lose_no_cell() -> None:
    found = scenes(POD_CELLS, CLUSTER.keys())
    assert all(len(scene) <= AT_MOST_OF.get(scene[0][0].name, AT_MOST) for scene in found)
    assert sorted(id(fault) for scene in found for fault, _ in scene) == sorted(
        id(fault) for fault, _ in POD_CELLS
    )


def test_runs_of_cells_have_names_of_their_own_that_a_run_may_have() -> None:
    names = {name_of(fault, phase, "12345") for fault, phase in POD_CELLS}
    assert len(names) == len(POD_CELLS)
    assert max(len(name) for name in names) <= 40
