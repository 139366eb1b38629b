"""A rank of the trainer that stands still outside of a step is missed too, once its bound is short enough."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import HangTimeouts
from footplate_contracts.names import Cause
from tests.component.footplate_elastic.agent.gang import Gang, eventually
from tests.support.tiny import pack_tiny, tiny_config

USUAL = HangTimeouts(factor=3.0, floor_seconds=600.0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("phase", "overrides", "field"),
    [
        pytest.param("loading", [], "loadingSeconds", id="loads"),
        pytest.param("checkpoint", ["checkpoint.asynchronous=false"], "checkpointSeconds", id="saves"),
        pytest.param("validation", [], "validationSeconds", id="validates"),
    ],
)
def test_a_rank_that_stands_still_is_missed(
    gang: Gang, tmp_path: Path, phase: str, overrides: list[str], field: str
) -> None:
    gang.hang_seconds = 600
    data = pack_tiny(tmp_path)
    validation = [f"validation.uri={data}", "validation.everySteps=5"]
    wanted = ["training.steps=30", "checkpoint.everySteps=10", *validation, *overrides]
    gang.use_trainer(tiny_config(data, tmp_path, wanted))
    gang.entry = "held_rank:run"
    hold = tmp_path / f"hold-{phase}"
    hold.touch()
    gang.start()
    # In this phase all ranks are held, then one of them is stopped and the others go on to wait for it.
    eventually(lambda: all(hold.with_suffix(f".{rank}").exists() for rank in range(4)))
    victim = gang.children(1)[0]
    os.kill(victim, signal.SIGSTOP)
    hold.unlink()

    short: dict[str, Any] = {f"{phase}_seconds": 1.0}
    gang.direct(hang=USUAL.model_copy(update=short))
    state = gang.wait_for(lambda state: bool(state.failures))
    gang.direct(hang=USUAL)

    [failure] = state.failures
    assert failure.failure.cause is Cause.HANG
    assert f"resilience.hang.{field} allows 1 s" in failure.failure.message
    finished = gang.wait_for(lambda state: state.state is RunState.FINISHED)
    assert finished.progress.step == 30
