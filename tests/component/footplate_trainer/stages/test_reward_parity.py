"""Stage reward does what TRL's RewardTrainer does with the same folder and rows: losses, norms and weights.

TRL looks for the last token that is no padding. The folder's padding is a token of its own, so that it finds
the one that ends the answer, whose place is known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.place import newest_whole
from footplate_trainer.data import order
from footplate_trainer.data.layout import ShardFormat
from footplate_trainer.huggingface.export import export
from tests.support.plain_llama import random_weights, write
from tests.support.ranks import run_ranks
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under
from tests.support.trl_cases import CASES, ROWS_OF_A_STEP, STEP_OF_TWO, answers, said
from tests.support.trl_oracle import Run, Seen, once, seen, shared_root

STEPS: Final = 5
CONTEXT: Final = 256
SGD: Final = "{name: sgd, learningRate: 0.01}"
ADAMW: Final = "{name: adamw, learningRate: 0.01, betas: [0.9, 0.999], weightDecay: 0}"
PAIRS: Final = [
    {
        "prompt": said("user", f"What is {a} plus {b}?"),
        "chosen": said("assistant", f"It is {a + b}."),
        "rejected": said("assistant", f"I think that it is {a * b + 1}, or so."),
    }
    for a in range(2, 2 + STEPS)
    for b in range(1, 1 + ROWS_OF_A_STEP)
]
MARGINS: Final = [row | {"margin": number % 3 / 4} for number, row in enumerate(PAIRS)]
# By name: rows, centring, and the optimizer as both call it.
LONG: Final = {
    "plain": (PAIRS, 0.0, SGD, "sgd"),
    "margin": (MARGINS, 0.0, SGD, "sgd"),
    "centring": (PAIRS, 0.01, SGD, "sgd"),
    "margin-centring-adamw": (MARGINS, 0.01, ADAMW, "adamw_torch"),
}


def in_the_order_of_trl(rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The rows in a file, so that the order of samples makes of them the sequence that TRL takes."""
    places = order.sample_ids(3, np.arange(len(rows), dtype=np.int64), len(rows))
    placed = dict(zip(places.tolist(), rows, strict=True))
    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(placed[place]) + "\n" for place in range(len(rows))))
    return source


def check(
    rows: Sequence[Mapping[str, Any]],
    centring: float,
    optimizer: str,
    told: Seen,
    model: Path,
    folder: Path,
    ranks: int = 1,
) -> None:
    """Our run of the same rows is that which was `told`."""
    source = in_the_order_of_trl(rows, folder)
    shards = pack_conversations(source, folder / "shards", model, format=ShardFormat.PREFERENCES)
    overrides = [
        "stage=reward",
        f"reward={{centering: {centring}}}",
        f"initFrom={{uri: {model}}}",
        f"model={{contextLength: {CONTEXT}}}",
        "data.seed=3",
        "data.packing.enabled=false",
        f"training.steps={len(told.losses)}",
        f"training.globalBatchSize={ROWS_OF_A_STEP}",
        "training.microBatchSize=1",
        f"training.optimizer={optimizer}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
    ]

    end: Ended = run_ranks(train_under, ranks, FakeAgent(), tiny_config(shards, folder, overrides))[0]

    assert end.code == ExitCode.SUCCESS, end.stderr
    assert [row.loss for row in end.agent.rows] == pytest.approx(told.losses, rel=0, abs=2e-6)
    norms = [row.gradient_norm for row in end.agent.rows]
    assert norms == pytest.approx(told.gradient_norms, rel=1e-5)
    for ours, theirs in zip(end.agent.rows, told.logs, strict=True):
        assert ours.values is not None
        assert ours.values["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-6)
        assert ours.values["margin"] == pytest.approx(theirs["margin"], abs=1e-5)
    if optimizer == SGD:
        export(newest_whole(str(folder / "checkpoints")), folder / "exported")
        after = load_file(str(told.weights[-1]))
        found = load_file(str(folder / "exported" / "model.safetensors"))
        assert found.keys() == after.keys()
        for weight, expected in after.items():
            torch.testing.assert_close(found[weight], expected, rtol=0, atol=1e-5)


def test_steps_with_margin_and_centring_are_those_of_trl(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    trl = answers(tmp_path_factory)
    check(CASES["reward"].rows, 0.01, SGD, trl.seen["reward"], trl.folders["score"], tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2], ids=["alone", "two-ranks"])
@pytest.mark.parametrize("name", LONG)
def test_each_step_is_that_of_trl(
    name: str, ranks: int, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    root = shared_root(tmp_path_factory)
    model = once(root / "score", lambda folder: write(folder, random_weights(7, "score")))
    runs = {
        case: Run(
            "reward",
            model,
            rows,
            {
                **STEP_OF_TWO,
                "max_steps": STEPS,
                "center_rewards_coefficient": centring or None,
                "optim": optim,
            },
        )
        for case, (rows, centring, _, optim) in LONG.items()
    }
    rows, centring, optimizer, _ = LONG[name]
    check(rows, centring, optimizer, seen(runs, root)[name], model, tmp_path, ranks)
