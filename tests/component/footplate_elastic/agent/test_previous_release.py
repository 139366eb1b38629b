"""Coordinator and agents of two releases, and what operator and API of either release read of it.

A run keeps the images that it was admitted with, so operator and API are upgraded around a coordinator that
stays; and an image of a run's own may have an agent of another release than its coordinator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from tools import released

from footplate_contracts.base import WireMessage
from footplate_contracts.coordinator_state import CoordinatorState, Progress, RunState
from footplate_contracts.directives import Directives, HangTimeouts
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import (
    GenerationId,
    GenerationRow,
    RankPhase,
    RankReport,
    TelemetryBatch,
    TelemetryItem,
)
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang, eventually
from tests.support import programs
from tests.support.released.tree import previous_tree, said_by
from tests.support.samples import shown
from tests.unit.footplate_elastic.coordinator.test_telemetry import row

AGENTS: Final = Path("tests/component/footplate_elastic/agent")
READ: Final = """
import sys
from footplate_contracts.{module} import {model}
print({model}.model_validate_json(sys.stdin.read()).model_dump_json(by_alias=True, exclude_none=True))
"""
SUSPEND: Final = """
import sys
from footplate_contracts.directives import Command, Directives
said = Directives.model_validate_json(sys.stdin.read())
said = said.model_copy(update={"command": Command.CHECKPOINT_AND_EXIT})
print(said.model_dump_json(by_alias=True, exclude_none=True))
"""
WHERE: Final = "import footplate_elastic.agent as agent; print(agent.__file__)"


@dataclass(frozen=True)
class Releases:
    """The trees whose code each side runs; None: this one."""

    coordinator: Path | None
    agents: Path | None


class OfTwoReleases(Gang):
    """One agent with one rank."""

    def __init__(self, directory: Path, releases: Releases) -> None:
        super().__init__(directory, nodes=1, local_world_size=1)
        self.releases = releases

    def start_coordinator(self, epoch: int = 1) -> programs.Running:
        tree = self.releases.coordinator
        self.extra |= {"PYTHONPATH": released.path_of(tree)} if tree else {}
        try:
            return super().start_coordinator(epoch)
        finally:
            self.extra.pop("PYTHONPATH", None)

    def placed(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        tree = self.releases.agents
        if tree is None:
            return command, environment
        return command, environment | {
            "PYTHONPATH": os.pathsep.join([str(tree / AGENTS), released.path_of(tree)])
        }


@pytest.fixture(params=["coordinator", "agents"])
def gang(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OfTwoReleases]:
    """One whose coordinator, or whose agents, are of the previous release."""
    sides = {"coordinator": None, "agents": None, request.param: previous_tree()}
    made = OfTwoReleases(tmp_path, Releases(**sides))
    yield made
    made.close()


def read_there(tree: Path, module: str, said: WireMessage) -> str:
    """`said`, as the release of `tree` writes what it has read of it."""
    program = READ.format(module=module, model=type(said).__name__)
    return said_by(tree, program, said.model_dump_json(by_alias=True, exclude_none=True))


def test_a_coordinator_and_an_agent_of_two_releases_train_and_suspend(
    gang: OfTwoReleases, api: FakeApi
) -> None:
    gang.extra[str(Env.API_URL)] = api.url
    [agent] = gang.start()
    state = gang.wait_for(lambda state: state.progress.step >= 7)
    there = gang.releases.agents or gang.releases.coordinator
    assert there is not None
    assert Path(said_by(there, WHERE).strip()).is_relative_to(there)

    seen = CoordinatorState.model_validate_json(read_there(there, "reports", state))
    assert (seen.generation, seen.progress.step) == (state.generation, state.progress.step)
    assert state.directives is not None
    gang._ask("PUT", "/v1/directives", said_by(there, SUSPEND, told(state.directives)))
    state = gang.wait_for(lambda state: state.state is RunState.SUSPENDED)
    assert agent.wait(30) == ExitCode.SUSPENDED
    assert state.checkpoint is not None and state.failures == []

    eventually(lambda: set(range(1, 8)) <= set(api.rows), 30)
    batch = TelemetryBatch(run_uid="uid-1", epoch=1, rows=list(api.rows.values()))
    stored = TelemetryBatch.model_validate_json(read_there(there, "reports", batch))
    assert [row.metrics.step for row in stored.rows] == [row.metrics.step for row in batch.rows]


def test_an_earlier_release_takes_a_row_and_passes_over_its_samples() -> None:
    """An earlier coordinator an agent's item, an earlier API a batch."""
    generation, metrics = GenerationId(epoch=1, number=1), row(3)
    item = TelemetryItem(sequence=1, generation=generation, metrics=metrics, samples=[shown(3)])
    seen = TelemetryItem.model_validate_json(read_there(previous_tree(), "reports", item))
    assert seen == item.model_copy(update={"samples": None})
    rows = [GenerationRow(generation=generation, metrics=metrics, samples=[shown(3)])]
    batch = TelemetryBatch(run_uid="uid-1", epoch=1, rows=rows)
    taken = TelemetryBatch.model_validate_json(read_there(previous_tree(), "reports", batch))
    assert taken.rows == [GenerationRow(generation=generation, metrics=metrics)]


def test_an_earlier_coordinator_takes_a_rollout_for_a_validation_and_waits_as_long_as_for_one() -> None:
    """It sees no progress: `resilience.hang.validationSeconds` bounds the whole rollout."""
    report = RankReport(rank=0, local_rank=0, step=3, phase=RankPhase.ROLLOUT, progress=500)
    seen = RankReport.model_validate_json(read_there(previous_tree(), "reports", report))
    assert seen == report.model_copy(update={"phase": RankPhase.VALIDATION, "progress": None})


def test_an_earlier_coordinator_passes_over_the_bounds_of_rollouts_and_takes_all_others() -> None:
    usual = HangTimeouts(factor=2.0, floor_seconds=60.0, validation_seconds=7200.0)
    hang = usual.model_copy(update={"rollout_seconds": 60.0, "scoring_seconds": 90.0})
    seen = read_there(previous_tree(), "directives", Directives(nodes=2, hang=hang))
    assert Directives.model_validate_json(seen) == Directives(nodes=2, hang=usual)


def test_an_earlier_operator_passes_over_the_phase_of_ranks() -> None:
    progress = Progress(step=3, total_steps=9, phase=RankPhase.SCORING, finished=7)
    state = CoordinatorState(version=1, epoch=1, state=RunState.TRAINING, progress=progress)
    seen = CoordinatorState.model_validate_json(read_there(previous_tree(), "reports", state))
    assert seen.progress == Progress(step=3, total_steps=9)
    assert seen.state is RunState.TRAINING


def told(directives: Directives) -> str:
    return directives.model_dump_json(by_alias=True, exclude_none=True)
