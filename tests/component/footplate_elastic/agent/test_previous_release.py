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
from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import Directives
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.reports import (
    TelemetryBatch,
)
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang, eventually
from tests.support import programs
from tests.support.released.tree import previous_tree, said_by

AGENTS: Final = Path("tests/component/footplate_elastic/agent")
READ: Final = """
import sys
from {module} import {model}
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


def read_there(tree: Path, said: WireMessage) -> str:
    """`said`, as the release of `tree` writes what it has read of it."""
    program = READ.format(module=type(said).__module__, model=type(said).__name__)
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

    seen = CoordinatorState.model_validate_json(read_there(there, state))
    assert (seen.generation, seen.progress.step) == (state.generation, state.progress.step)
    assert state.directives is not None
    gang._ask("PUT", "/v1/directives", said_by(there, SUSPEND, told(state.directives)))
    state = gang.wait_for(lambda state: state.state is RunState.SUSPENDED)
    assert agent.wait(30) == ExitCode.SUSPENDED
    assert state.checkpoint is not None and state.failures == []

    eventually(lambda: set(range(1, 8)) <= set(api.rows), 30)
    batch = TelemetryBatch(run_uid="uid-1", epoch=1, rows=list(api.rows.values()))
    stored = TelemetryBatch.model_validate_json(read_there(there, batch))
    assert [row.metrics.step for row in stored.rows] == [row.metrics.step for row in batch.rows]


def told(directives: Directives) -> str:
    return directives.model_dump_json(by_alias=True, exclude_none=True)
