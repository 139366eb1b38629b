"""Data that cannot be trained on ends a run before anybody has waited for anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.names import Cause, ExitCode, Reason
from tests.component.footplate_elastic.agent.gang import Gang
from tests.support.tiny import pack_tiny


def name_data(gang: Gang, data: dict[str, object]) -> None:
    path = gang.directory / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": data}))


def spoilt(folder: Path) -> dict[str, object]:
    shards = pack_tiny(folder)
    (shards / "shard-00000.bin").write_bytes(b"short")
    return {"sources": [{"name": "a", "uri": str(shards)}]}


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        pytest.param(
            lambda folder: {"uri": f"{folder}/nowhere"},
            Reason.DATA_MISSING,
            "the folder does not exist",
            id="missing",
        ),
        pytest.param(spoilt, Reason.DATA_CORRUPT, "shard-00000.bin: size is 5 bytes", id="corrupt"),
    ],
)
def test_an_agent_says_what_is_wrong_before_it_imports_torch(
    gang: Gang, tmp_path: Path, data, reason: Reason, says: str
) -> None:
    gang.program = "footplate_trainer.worker"
    gang.warm = ["no_such_module"]  # and before it looks whether ranks can be started at all
    name_data(gang, data(tmp_path))
    gang.start_coordinator()
    agent = gang.start_agent(0)
    assert agent.wait(60) == ExitCode.CONFIG
    [failed] = gang.wait_for(lambda state: bool(state.failures)).failures
    failure = failed.failure
    assert (failure.cause, failure.reason, failure.exit_code) == (
        Cause.IMAGE_OR_CONFIG,
        reason,
        ExitCode.CONFIG,
    )
    assert says in failure.message and says in gang.log("agent-0-0")
