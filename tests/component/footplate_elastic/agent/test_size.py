"""A gang that shrinks and grows in place: the same losses from the same samples, whatever the size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import Cause, Env
from footplate_contracts.reports import GenerationId
from footplate_trainer.__main__ import main
from tests.component.footplate_elastic.agent.gang import FakeApi, Gang
from tests.support.tiny import read_rows, tiny_config, tiny_manifest

STEPS = 40


def in_generation(state: CoordinatorState, number: int, step: int) -> bool:
    here = state.generation == GenerationId(epoch=1, number=number)
    return here and state.state is RunState.TRAINING and state.progress.step >= step


@pytest.mark.long
@pytest.mark.parametrize("nodes", [pytest.param(2, id="two-one-two"), pytest.param(3, id="three-two-three")])
def test_losses_follow_the_undisturbed_run_through_shrinking_and_growing(
    tmp_path: Path, shards: Path, api: FakeApi, nodes: int
) -> None:
    # At a small rate, since Adam magnifies rounding, and other sizes sum in another order.
    rate = "training.optimizer.learningRate=0.002"
    overrides = [f"training.steps={STEPS}", "checkpoint.everySteps=5", rate]
    manifest, metrics = tmp_path / "undisturbed.json", tmp_path / "metrics.jsonl"
    manifest.write_text(json.dumps(tiny_manifest(shards, tmp_path / "undisturbed")))
    told = [word for override in overrides for word in ("--set", override)]
    assert main(["train", str(manifest), "--metrics", str(metrics), *told]) == 0

    gang = Gang(tmp_path, nodes=nodes, local_world_size=1)
    gang.least, gang.substitute = nodes - 1, 0.5
    gang.extra[str(Env.API_URL)] = api.url
    gang.use_trainer(tiny_config(shards, tmp_path / "elastic", overrides))
    gang.entry = "held_rank:run"
    holds = [tmp_path / f"hold-{step}" for step in (9, 14, 31)]
    for hold in holds:
        hold.touch()
    try:
        agents = gang.start()
        gang.wait_for(lambda state: in_generation(state, 1, 8) and state.checkpoint is not None)
        agents[-1].kill()
        gang.wait_for(lambda state: in_generation(state, 2, 8))
        holds[0].unlink()
        state = gang.wait_for(lambda state: in_generation(state, 2, 13))
        assert (len(state.members), state.missing) == (nodes - 1, [nodes - 1])
        substitute = gang.start_agent(nodes - 1, incarnation=1)
        gang.wait_for(lambda state: [agent.index for agent in state.waiting] == [nodes - 1])
        holds[1].unlink()
        state = gang.wait_for(lambda state: in_generation(state, 3, 0))
        assert len(state.members) == nodes and state.start_step is not None and state.start_step >= 15
        holds[2].unlink()
        state = gang.wait_for(lambda state: state.state is RunState.FINISHED)
        assert [failure.failure.cause for failure in state.failures] == [Cause.NODE_LOST]
        assert [agent.wait(60) for agent in [*agents[:-1], substitute]] == [0] * nodes
    finally:
        gang.close()

    rows = [api.rows[step].metrics for step in sorted(api.rows)]
    expected = read_rows(metrics)
    assert [row.step for row in rows] == [row["step"] for row in expected] == list(range(1, STEPS + 1))
    assert [row.sample_digest for row in rows] == [row["sampleDigest"] for row in expected]
    assert [row.loss for row in rows] == pytest.approx([row["loss"] for row in expected], abs=1e-5)
    assert {api.rows[step].generation.number for step in api.rows} == {1, 2, 3}
