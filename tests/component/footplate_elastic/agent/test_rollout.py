"""A rollout that gets on is no hang, however long it lasts; one that stands still is dumped and restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import HangBounds
from footplate_contracts.names import Cause, Env
from footplate_contracts.reports import RankPhase
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang, eventually
from tests.support.tiny import tiny_config

BOUND: Final = 3.0  # seconds
ENOUGH: Final = 180  # tokens of two ranks, each of which takes a twentieth of a second for one: 1.5 bounds
LONG: Final = HangBounds(factor=3.0, floor_seconds=600.0)
# Also for whoever is done, and waits for the other one.
SHORT: Final = HangBounds(factor=3.0, floor_seconds=BOUND, rollout_seconds=BOUND)


def test_a_rollout_that_gets_on_outlasts_its_bound_and_one_that_stands_still_is_restarted(
    tmp_path: Path, shards: Path, api: FakeApi
) -> None:
    gang = Gang(tmp_path, nodes=1)
    gang.extra[str(Env.API_URL)] = api.url
    gang.hang_seconds = 600
    gang.use_trainer(tiny_config(shards, tmp_path, ["training.steps=2"]))
    gang.entry = "sampling_rank:run"
    samples, still = tmp_path / "samples", tmp_path / "still-1"
    samples.touch()
    try:
        gang.start()
        begun = gang.wait_for(lambda state: bool(state.progress.finished))
        assert (begun.state, begun.progress.phase) == (RunState.TRAINING, RankPhase.ROLLOUT)
        gang.direct(hang=SHORT)
        bounded = gang.state()
        assert bounded is not None and bounded.progress.finished is not None
        enough = bounded.progress.finished + ENOUGH
        later = gang.wait_for(lambda state: (state.progress.finished or 0) >= enough)
        assert (later.generation, later.failures, later.progress.step) == (begun.generation, [], 0)

        still.touch()
        eventually(still.with_suffix(".held").exists)
        samples.unlink()  # the other rank is done with its rollout now, and waits
        hung = gang.wait_for(lambda state: bool(state.failures))
        gang.direct(hang=LONG)
        still.unlink()
        [failure] = hung.failures
        assert (failure.failure.cause, failure.failure.rank) == (Cause.HANG, 1)
        assert "is still at rollout after step 0, with " in failure.failure.message
        assert "resilience.hang.rolloutSeconds allows 3 s" in failure.failure.message
        assert "in stand_still" in gang.log("agent-0-0"), "the stacks"

        finished = gang.wait_for(lambda state: state.state is RunState.FINISHED)
        assert finished.generation != begun.generation and len(finished.failures) == 1
        assert finished.progress.step == 2 and finished.progress.phase is None
        eventually(lambda: set(api.rows) == {1, 2})
        for row in (row.metrics for row in api.rows.values()):
            assert row.step_seconds is not None and row.rollout_seconds is not None
            assert 0.05 <= row.rollout_seconds <= row.step_seconds and row.scoring_seconds is not None
    finally:
        gang.close()
