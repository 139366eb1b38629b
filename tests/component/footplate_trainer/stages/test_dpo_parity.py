"""Stage dpo does what TRL's trainers do with the same folder and rows: losses, gradient norms and weights.

Our micro-batch is one row throughout. With AdamW, TRL's weights differ from themselves by more than the bar
between micro-batches, so losses and norms judge.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.place import newest_whole
from footplate_trainer.data import order
from footplate_trainer.data.layout import ShardFormat
from footplate_trainer.huggingface.export import export
from tests.support.ranks import run_ranks
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under
from tests.support.trl_cases import answers
from tests.support.trl_oracle import Seen, shared_root
from tests.support.trl_preferences import (
    CASES,
    NAMES,
    OF_A_STEP,
    QUICK,
    STEPS,
    Case,
    model_of_pairs,
    seen_of_long,
)

CONTEXT = 256
OURS: Final = {
    "sgd": "{name: sgd, learningRate: 0.01}",
    "adamw": "{name: adamw, learningRate: 0.001, betas: [0.9, 0.999], epsilon: 1.0e-8, weightDecay: 0.0}",
}


def told(name: str, factory: pytest.TempPathFactory) -> Seen:
    """What TRL did."""
    return answers(factory).seen[f"pairs-{name}"] if name in QUICK else seen_of_long(name, factory)


def packed(case: Case, model: Path, folder: Path) -> Path:
    """Shards of the rows in such places that the order of samples makes of them the one that TRL takes."""
    places = order.sample_ids(3, np.arange(len(case.rows), dtype=np.int64), len(case.rows))
    rows = dict(zip(places.tolist(), case.rows, strict=True))
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(rows[place]) + "\n" for place in range(len(rows))))
    kind = ShardFormat.RATINGS if case.trainer == "kto" else ShardFormat.PREFERENCES
    return pack_conversations(source, folder / "shards", model, format=kind)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in NAMES]
)
def test_each_step_is_that_of_trl(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trl, model = told(name, tmp_path_factory), model_of_pairs(shared_root(tmp_path_factory))
    kind, _, optimizer = name.rpartition("-")
    case = CASES[kind]
    shards = packed(case, model, tmp_path)
    overrides = [
        "stage=dpo",
        f"preference={case.preference}",
        *case.more,
        f"initFrom={{uri: {model}}}",
        f"model={{contextLength: {CONTEXT}}}",
        "data.seed=3",
        "data.packing.enabled=false",
        f"training.steps={STEPS}",
        f"training.globalBatchSize={OF_A_STEP}",
        "training.microBatchSize=1",
        f"training.optimizer={OURS[optimizer]}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
    ]

    end: Ended = run_ranks(train_under, 1, FakeAgent(), tiny_config(shards, tmp_path, overrides))[0]

    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    assert len(trl.losses) == STEPS
    for row, expected in zip(rows, trl.losses, strict=True):
        # TRL computes in fp32, whose last digit is 2e-6 of ipo's 25: its squares are within four such units.
        assert row.loss == pytest.approx(expected, rel=0, abs=max(2e-6, 5e-7 * expected))
    assert [row.gradient_norm for row in rows] == pytest.approx(trl.gradient_norms, rel=1e-5)
    if optimizer == "adamw":
        return
    export(newest_whole(str(tmp_path / "checkpoints")), tmp_path / "exported")
    theirs = load_file(str(trl.weights[-1]))
    ours = load_file(str(tmp_path / "exported" / "model.safetensors"))
    assert ours.keys() == theirs.keys()
    for weight, expected in theirs.items():
        torch.testing.assert_close(ours[weight], expected, rtol=0, atol=1e-5)
