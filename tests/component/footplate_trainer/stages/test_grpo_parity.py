"""Stage grpo does what TRL's GRPO does with the same answers and rewards: losses, norms and weights.

Neither samples: both are given their rollouts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.huggingface.export import export
from footplate_trainer.rewards.samples import SampleKey
from footplate_trainer.rollout.records import Record, RewardsRecord, SampleRecord
from tests.support.plain_steps import GROUP
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, reinforce
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent
from tests.support.trl_cases import (
    CASES,
    PROMPTS,
    PROMPTS_OF_A_STEP,
    ROLLOUTS,
    Answers,
    answers,
)
from tests.support.trl_oracle import Rollout

SAMPLES: Final = GROUP * PROMPTS_OF_A_STEP
# What is asked of ours; TRL has neither dynamic sampling nor a penalty of long answers.
SETTINGS: Final[Mapping[str, str]] = {
    "grpo": "{kl: {coefficient: 0.1}}",
    "grpo-batch-deviation": "{groupAdvantage: batchDeviation}",
    "dapo": "{preset: dapo, dynamicSampling: {enabled: false}}",
    "dr-grpo-twice": "{preset: drGrpo, epochs: 2}",
    "gspo-twice": "{preset: gspo, epochs: 2}",
}
QUICK: Final = ("grpo", "dapo", "dr-grpo-twice")


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return answers(tmp_path_factory)


@pytest.fixture(scope="module")
def shards(trl: Answers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TRL's prompts, in a file of such an order that the run takes them in TRL's."""
    folder = tmp_path_factory.mktemp("prompts")
    places = order.sample_ids(3, np.arange(len(PROMPTS), dtype=np.int64), len(PROMPTS))
    rows = dict(zip(places.tolist(), PROMPTS, strict=True))
    source = folder / "prompts.jsonl"
    source.write_text("".join(json.dumps(rows[place]) + "\n" for place in range(len(PROMPTS))))
    return pack_conversations(source, folder / "shards", trl.folders["lm_head"], format=ShardFormat.PROMPTS)


def played(step: int, first: int, rollout: Rollout) -> list[Record]:
    """A rollout that begins after `step`, as it is drawn and rewarded."""
    records: list[Record] = []
    for number, (tokens, reward) in enumerate(zip(rollout.answers, rollout.rewards, strict=True)):
        nothing = np.zeros(len(tokens), dtype=np.float32)
        sample = SampleRecord(
            SampleKey(step, first + number // GROUP, number % GROUP),
            np.array(tokens, dtype=np.int32),
            nothing,
            nothing,
            EndReason.LENGTH,
        )
        records += [sample, RewardsRecord(sample.key, sample.mark, {"given": reward})]
    return records


@pytest.mark.parametrize(
    ("name", "ranks", "micro_batch"),
    [
        *(
            pytest.param(name, 1, 2, id=name, marks=() if name in QUICK else pytest.mark.long)
            for name in SETTINGS
        ),
        *(
            pytest.param("dapo", ranks, size, id=f"dapo-{ranks}-ranks-{size}", marks=pytest.mark.long)
            for ranks, size in ((1, 1), (1, 4), (2, 2), (3, 1))
        ),
    ],
)
def test_each_step_is_that_of_trl(
    name: str, ranks: int, micro_batch: int, trl: Answers, shards: Path, tmp_path: Path
) -> None:
    told, case = trl.seen[name], CASES[name]
    overrides = [
        "stage=grpo",
        f"initFrom={{uri: {trl.folders['lm_head']}}}",
        "model={contextLength: 256}",
        f"rollout={{maxTokens: 16, group: {GROUP}, samples: {SAMPLES}}}",
        f"reinforcement={SETTINGS[name]}",
        "reward.functions=[{name: given, length: {}}]",
        f"training.steps={len(told.losses)}",
        f"training.globalBatchSize={SAMPLES}",
        f"training.microBatchSize={micro_batch}",
        "training.optimizer={name: sgd, learningRate: 0.01}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
    ]
    config = tiny_config(shards, tmp_path, overrides)
    rollouts = {
        number * case.updates: played(number * case.updates, number * PROMPTS_OF_A_STEP, ROLLOUTS[number])
        for number in range(-(-len(told.losses) // case.updates))
    }

    end: Reinforced = run_ranks(reinforce, ranks, FakeAgent(), config, rollouts)[0]

    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    assert [row.loss for row in rows] == pytest.approx(told.losses, rel=0, abs=2e-6)
    assert [row.gradient_norm for row in rows] == pytest.approx(told.gradient_norms, rel=1e-5)
    export(newest_whole(str(tmp_path / "checkpoints")), tmp_path / "exported")
    theirs = load_file(str(told.weights[-1]))
    ours = load_file(str(tmp_path / "exported" / "model.safetensors"))
    assert ours.keys() == theirs.keys()
    for weight, expected in theirs.items():
        torch.testing.assert_close(ours[weight], expected, rtol=0, atol=1e-5)
