"""Trainings by TRL's GRPO that stage grpo repeats, with two optimizers; both are given their rollouts.

TRL has neither dynamic sampling nor a penalty of long answers, so ours has none here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from bench.posttraining.parity.comparison import SEED, Compared, deviations, in_the_order_of
from bench.posttraining.parity.formula_cases import CASES, PROMPTS, PROMPTS_OF_A_STEP, ROLLOUTS
from bench.posttraining.parity.formulas import GROUP
from bench.posttraining.parity.golden import Recorded
from bench.posttraining.parity.oracle import Rollout, Run, Seen
from bench.posttraining.parity.stages import CONTEXT, OPTIMIZERS, STEPS, once

from footplate_contracts.names import ExitCode
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.journal_records import Record, RewardsRecord, SampleRecord
from tests.support.plain_llama import random_weights
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, reinforce
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

_SAMPLES: Final = GROUP * PROMPTS_OF_A_STEP
# What is asked of ours in the case of that name.
SETTINGS: Final[Mapping[str, str]] = {
    "grpo": "{kl: {coefficient: 0.1}}",
    "grpo-batch-deviation": "{groupAdvantage: batchDeviation}",
    "dapo": "{preset: dapo, dynamicSampling: {enabled: false}}",
    "dr-grpo-twice": "{preset: dr_grpo, numIterations: 2}",
    "gspo-twice": "{preset: gspo, numIterations: 2}",
}
NAMES: Final = tuple(f"{kind}-{optimizer}" for kind in SETTINGS for optimizer in OPTIMIZERS)


def runs_of(names: Iterable[str], root: Path) -> dict[str, Run]:
    """The trainings of these names, of five steps, with their model in `root`."""
    runs, model = {}, once(root / "lm_head", random_weights(7))
    for name in names:
        kind, _, optimizer = name.rpartition("-")
        settings = {**CASES[kind].settings, "max_steps": STEPS, **OPTIMIZERS[optimizer].settings}
        runs[name] = Run("grpo", model, PROMPTS, settings, rollouts=ROLLOUTS)
    return runs


def compared(
    name: str, told: Seen | Recorded, model: Path, folder: Path, *, ranks: int = 1, micro_batch: int = 2
) -> Compared:
    """Our training of that name, which begins with `model`, with TRL's."""
    kind, _, optimizer = name.rpartition("-")
    source = in_the_order_of(PROMPTS, folder / "prompts.jsonl")
    shards = pack_conversations(source, folder / "shards", model, format=RecordKind.PROMPTS)
    overrides = [
        "stage=grpo",
        f"initFrom={{uri: {model}}}",
        f"model={{contextLength: {CONTEXT}}}",
        f"data.seed={SEED}",
        f"rollout={{maxTokens: 16, numGenerations: {GROUP}, generationBatchSize: {_SAMPLES}}}",
        f"reinforcement={SETTINGS[kind]}",
        "reward.functions=[{name: given, length: {}}]",
        f"training.steps={len(told.losses)}",
        f"training.globalBatchSize={_SAMPLES}",
        f"training.microBatchSize={micro_batch}",
        f"training.optimizer={OPTIMIZERS[optimizer].ours}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
    ]
    updates = CASES[kind].updates
    rollouts = {
        number * updates: _played(number * updates, number * PROMPTS_OF_A_STEP, ROLLOUTS[number])
        for number in range(-(-len(told.losses) // updates))
    }
    config = tiny_config(shards, folder, overrides)
    end: Reinforced = run_ranks(reinforce, ranks, FakeAgent(), config, rollouts)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    return Compared(deviations(rows, told, folder / "checkpoints", weights=optimizer == "sgd"), rows)


def _played(step: int, first: int, rollout: Rollout) -> list[Record]:
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
