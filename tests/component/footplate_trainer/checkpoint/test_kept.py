"""Which checkpoints of a real run stay beyond the newest, and what the run is told of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from footplate_contracts.names import ExitCode
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent, train_under


def test_the_best_and_those_that_bear_a_mark_stay(shards: Path, tmp_path: Path) -> None:
    overrides = [
        f"validation={{everySteps: 1, uri: {shards}, batches: 2}}",
        "training.optimizer.learningRate=3.0",  # so that the last is not the best
        "checkpoint.everySteps=1",
        "checkpoint.keepLast=1",
        'checkpoint.promoted=[{"name": "middle", "step": 3}, {"name": "no-such", "step": 77}]',
    ]
    config = tiny_config(shards, tmp_path, overrides)

    end = run_ranks(train_under, 2, FakeAgent(), config)[0]

    assert end.code == ExitCode.SUCCESS
    losses = {row.step: row.validation_loss for row in end.agent.rows}
    assert all(loss is not None for loss in losses.values()) and list(losses) == [1, 2, 3, 4, 5, 6]
    best = min(losses, key=lambda step: losses[step] or 0.0)
    assert best not in (3, 6), "or this shows nothing"
    newest = end.agent.checkpoints[-1]
    assert newest.step == 6 and newest.validation_loss == losses[6]
    folder = Path(config.checkpoint.uri)
    assert sorted(int(path.stem.split("-")[1]) for path in folder.glob("*.committed")) == sorted({3, best, 6})
    assert newest.standing is not None
    assert [found.step for found in newest.standing] == sorted({3, best, 6}, reverse=True)
    for found in newest.standing:
        manifest = (
            folder / f"step-{found.step}.e{found.generation.epoch}g{found.generation.number}/manifest.json"
        )
        assert found.digest == hashlib.sha256(manifest.read_bytes()).hexdigest()
        assert found.validation_loss == losses[found.step]
    assert newest.digest == newest.standing[0].digest
