"""A rollout that gets on is no hang, however long it lasts; one that stands still is dumped and restarted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.directives import HangTimeouts
from footplate_contracts.names import Cause, Env
from footplate_contracts.reports import RankPhase
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang, eventually
from tests.support.tiny import tiny_config

LONG: Final = HangTimeouts(factor=3.0, floor_seconds=600.0)
TOKENS: Final = 40  # of two ranks in a second, at most


def finished(gang: Gang, more: int) -> int:
    """What ranks have finished in the rollout, once that is more than `more`."""
    state = gang.wait_for(lambda state: (state.progress.finished or 0) > more)
    assert state.progress.finished is not None
    return state.progress.finished


def slowest_news(gang: Gang) -> float:
    """Seconds between two words of progress as this machine lets them come; a second where it is idle."""
    seen, gaps = finished(gang, 0), []
    for _ in range(2):
        since = time.monotonic()
        seen = finished(gang, seen)
        gaps.append(time.monotonic() - since)
    return max(1.0, *gaps)


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
        bound = 2.5 * slowest_news(gang)
        # Whoever is done with its rollout, and waits for the other one, has the timeout of a step.
        gang.direct(hang=LONG.model_copy(update={"floor_seconds": 0.5 * bound, "rollout_seconds": bound}))
        finished(gang, finished(gang, 0) + int(1.2 * bound * TOKENS))
        later = gang.state()
        assert later is not None
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
        assert f"resilience.hang.rolloutSeconds allows {bound:.0f} s" in failure.failure.message
        eventually(lambda: "in stand_still" in gang.log("agent-0-0"))  # the stacks

        ended = gang.wait_for(lambda state: state.state is RunState.FINISHED)
        assert ended.generation != begun.generation and len(ended.failures) == 1
        assert ended.progress.step == 2 and ended.progress.phase is None
        eventually(lambda: set(api.rows) == {1, 2})
        for row in (row.metrics for row in api.rows.values()):
            assert row.step_seconds is not None and row.rollout_seconds is not None
            assert 0.05 <= row.rollout_seconds <= row.step_seconds and row.scoring_seconds is not None
    finally:
        gang.close()
