"""Stage ppo does what a textbook's loop does with the same answers and scores: losses, norms and weights.

The textbook has no code of ours; ours finds the rollout in a journal, as after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.place import newest_whole
from footplate_trainer.data import order
from footplate_trainer.data.layout import ShardFormat
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.huggingface.export import export
from footplate_trainer.rewards.samples import SampleKey
from footplate_trainer.rollout.records import Record, RewardsRecord, SampleRecord
from tests.support import ppo_textbook as textbook
from tests.support.plain_llama import random_weights, read, rendered, tokenizer, write
from tests.support.ppo_textbook import Episode, Settings, Textbook, Update
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, reinforce
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

EPISODES: Final = 8
BATCH: Final = 4  # of a step: two mini-batches an epoch
EPOCHS: Final = 2
STEPS: Final = 5  # the second rollout is not trained on to its end
RATE: Final = 0.05
PROMPTS: Final = [[{"role": "user", "content": "x" * (number + 1)}] for number in range(2 * EPISODES)]


@dataclass(frozen=True)
class Case:
    """What is asked of ours, and what the textbook calls it."""

    asked: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    adaptive: bool = False
    missing_end: float = 0.0


CASES: Final[Mapping[str, Case]] = {
    "defaults": Case(),
    "k3-in-the-loss": Case(
        {"kl": {"placement": "loss", "estimator": "k3", "coefficient": 0.2}},
        Settings(in_loss=True, estimator="k3", coefficient=0.2),
    ),
    "k2-after-the-end": Case(
        {"kl": {"estimator": "k2"}, "scoreAt": "afterEnd", "gamma": 0.9, "gaeLambda": 0.8},
        Settings(estimator="k2", after_end=True, gamma=0.9, lam=0.8),
    ),
    "clips": Case(
        {"clip": {"low": 0.01, "high": 0.02, "dual": 1.5}},
        Settings(low=0.01, high=0.02, dual=1.5),
    ),
    "adaptive": Case({"kl": {"target": 0.01, "horizon": 20}}, adaptive=True),
    "missing-end": Case({"missingEndPenalty": 0.7}, missing_end=0.7),
}
QUICK: Final = ("defaults", "k2-after-the-end")


def answers(rollout: int) -> list[Episode]:
    """Of the prompts in the order of a rollout; lengths up to the longest that there may be."""
    drawn = torch.Generator().manual_seed(31 + rollout)
    made = []
    for number in range(EPISODES):
        length = (3, 16, 7, 1, 9, 12, 5, 16)[number]
        tokens = torch.randint(0, 250, (length,), generator=drawn).tolist()
        score = float(torch.randn((), generator=drawn))
        prompt = tokenizer().encode(rendered(PROMPTS[rollout * EPISODES + number], opened=True)).ids
        made.append(Episode(prompt, tokens, score))
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "policy": write(root / "policy", random_weights(7)),
        "reference": write(root / "reference", random_weights(13)),
        "value": write(root / "value", random_weights(17, "score")),
    }


@pytest.fixture(scope="module")
def shards(models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prompts, in a file of such an order that the run takes them in ours."""
    folder = tmp_path_factory.mktemp("prompts")
    places = order.sample_ids(3, np.arange(len(PROMPTS), dtype=np.int64), len(PROMPTS))
    rows = dict(zip(places.tolist(), PROMPTS, strict=True))
    source = folder / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": rows[place]}) + "\n" for place in range(len(PROMPTS))))
    return pack_conversations(source, folder / "shards", models["policy"], format=ShardFormat.PROMPTS)


def played(step: int, first: int, episodes: Sequence[Episode]) -> list[Record]:
    """A rollout that begins after `step`, as it is drawn and rewarded."""
    records: list[Record] = []
    for number, episode in enumerate(episodes):
        tokens = np.array(episode.answer, dtype=np.int32)
        nothing = np.zeros(len(tokens), dtype=np.float32)
        reason = EndReason.END if len(tokens) < Settings().longest else EndReason.LENGTH
        sample = SampleRecord(SampleKey(step, first + number, 0), tokens, nothing, nothing, reason)
        records += [sample, RewardsRecord(sample.key, sample.mark, {"given": episode.score})]
    return records


def expected(case: Case, models: Mapping[str, Path]) -> tuple[list[Update], list[float], Textbook]:
    """The textbook's updates, and the coefficient of KL in each step."""
    policy, value, reference = (
        read(models[name] / "model.safetensors") for name in ("policy", "value", "reference")
    )
    optimizers = tuple(torch.optim.SGD(list(model.values()), lr=RATE) for model in (policy, value))
    assert len(optimizers) == 2
    loop = Textbook(policy, value, reference, optimizers, case.settings)
    updates: list[Update] = []
    coefficients: list[float] = []
    coefficient, per_rollout = case.settings.coefficient, EPOCHS * EPISODES // BATCH
    for rollout in range(-(-STEPS // per_rollout)):
        episodes = [
            replace(episode, score=episode.score - case.missing_end * (len(episode.answer) == 16))
            for episode in answers(rollout)
        ]
        loop.settings = replace(case.settings, coefficient=coefficient)
        known = loop.experience(episodes)
        apart = sum(sum(seen.divergence(case.settings.estimator)) for seen in known) / EPISODES
        for epoch in range(EPOCHS):
            numbers = order.permute(
                3, rollout * EPOCHS + epoch, np.arange(EPISODES, dtype=np.int64), EPISODES
            ).tolist()
            for first in range(0, EPISODES, BATCH):
                if len(updates) < STEPS:
                    updates.append(loop.update([known[number] for number in numbers[first : first + BATCH]]))
                    coefficients.append(coefficient)
        if case.adaptive:
            coefficient = textbook.adapted(coefficient, apart, 0.01, EPISODES, 20)
    return updates, coefficients, loop


def config_of(case: Case, models: Mapping[str, Path], shards: Path, folder: Path, *more: str) -> RunConfig:
    """The run that is the textbook's."""
    asked = {
        "epochs": EPOCHS,
        "value": {"uri": str(models["value"])},
        "reference": {"uri": str(models["reference"])},
        **case.asked,
    }
    overrides = [
        "stage=ppo",
        f"initFrom={{uri: {models['policy']}}}",
        "model={contextLength: 256}",
        f"rollout={{maxTokens: 16, samples: {EPISODES}}}",
        f"reinforcement={json.dumps(asked)}",
        "reward.functions=[{name: given, length: {}}]",
        f"training.steps={STEPS}",
        f"training.globalBatchSize={BATCH}",
        f"training.optimizer={{name: sgd, learningRate: {RATE}}}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
        *more,
    ]
    return tiny_config(shards, folder, overrides)


@pytest.mark.parametrize(
    ("name", "ranks", "micro_batch", "more"),
    [
        *(
            pytest.param(name, 1, 2, (), id=name, marks=() if name in QUICK else pytest.mark.long)
            for name in CASES
        ),
        *(
            pytest.param("k2-after-the-end", ranks, 1, more, id=f"{label}", marks=pytest.mark.long)
            for label, ranks, more in (
                ("two", 2, ()),
                ("three", 3, ()),
                ("full", 2, ("parallelism={sharding: full}",)),
                ("context", 2, ("parallelism={context: 2}",)),
                ("pipeline", 2, ("parallelism={pipeline: 2}",)),
            )
        ),
    ],
)
def test_each_step_is_that_of_the_textbook(
    name: str,
    ranks: int,
    micro_batch: int,
    more: Sequence[str],
    models: Mapping[str, Path],
    shards: Path,
    tmp_path: Path,
) -> None:
    case = CASES[name]
    updates, coefficients, loop = expected(case, models)
    config = config_of(case, models, shards, tmp_path, f"training.microBatchSize={micro_batch}", *more)
    begun = range(0, STEPS, EPOCHS * EPISODES // BATCH)
    rollouts = {step: played(step, number * EPISODES, answers(number)) for number, step in enumerate(begun)}

    end: Reinforced = run_ranks(reinforce, ranks, FakeAgent(), config, rollouts)[0]

    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    weight = case.settings.value_weight
    assert [row.values["policy/loss"] for row in rows] == pytest.approx(
        [update.policy_loss for update in updates], rel=0, abs=2e-6
    )
    assert [weight * row.values["value/loss"] for row in rows] == pytest.approx(
        [update.value_loss for update in updates], rel=0, abs=2e-6
    )
    assert [row.loss for row in rows] == pytest.approx(
        [update.policy_loss + update.value_loss for update in updates], rel=0, abs=4e-6
    )
    assert [row.gradient_norm for row in rows] == pytest.approx(
        [update.policy_norm for update in updates], rel=1e-5
    )
    assert [row.values["value/gradient_norm"] for row in rows] == pytest.approx(
        [update.value_norm for update in updates], rel=1e-5
    )
    assert [row.values["kl/coefficient"] for row in rows] == pytest.approx(coefficients, rel=1e-6)
    export(newest_whole(str(tmp_path / "checkpoints")), tmp_path / "exported")
    ours = load_file(str(tmp_path / "exported" / "model.safetensors"))
    for tensor, weights in loop.policy.items():
        torch.testing.assert_close(ours[tensor], weights.detach().float(), rtol=0, atol=1e-5)
