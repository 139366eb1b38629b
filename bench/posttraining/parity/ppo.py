"""Trainings by a textbook's PPO that stage ppo repeats, with two optimizers; both are given their rollouts.

The textbook has no code of ours; ours finds the rollout in a journal, as after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from bench.posttraining.parity import textbook
from bench.posttraining.parity.comparison import (
    SEED,
    Compared,
    Deviations,
    furthest,
    in_the_order_of,
    largest,
)
from bench.posttraining.parity.stages import once
from bench.posttraining.parity.textbook import Episode, Settings, Textbook, Update
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.data import order
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.huggingface.export import export_checkpoint
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout.journal_records import Record, RewardsRecord, SampleRecord
from tests.support.plain_llama import random_weights, read, rendered, tokenizer
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, reinforce
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

EPISODES: Final = 8
BATCH: Final = 4  # of a step: two mini-batches an epoch
EPOCHS: Final = 2
STEPS: Final = 5  # the second rollout is not trained on to its end
MISSING: Final = 16  # tokens of an answer that was cut
PROMPTS: Final = [[{"role": "user", "content": "x" * (number + 1)}] for number in range(2 * EPISODES)]


@dataclass(frozen=True)
class Kind:
    """An optimizer as the textbook is given it, and as ours is told of it."""

    make: Callable[[list[Tensor]], Optimizer]
    ours: str


OPTIMIZERS: Final[Mapping[str, Kind]] = {
    "sgd": Kind(lambda leaves: torch.optim.SGD(leaves, lr=0.05), "{name: sgd, learningRate: 0.05}"),
    "adamw": Kind(
        lambda leaves: torch.optim.AdamW(leaves, lr=1e-3, weight_decay=0.0),
        "{name: adamw, learningRate: 0.001, betas: [0.9, 0.999], epsilon: 1.0e-8, weightDecay: 0.0}",
    ),
}


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
        {"kl": {"estimator": "k2"}, "scorePosition": "afterLastToken", "gamma": 0.9, "gaeLambda": 0.8},
        Settings(estimator="k2", after_end=True, gamma=0.9, lam=0.8),
    ),
    "clips": Case(
        {"clip": {"low": 0.01, "high": 0.02, "dual": 1.5}},
        Settings(low=0.01, high=0.02, dual=1.5),
    ),
    "adaptive": Case({"kl": {"target": 0.01, "horizon": 20}}, adaptive=True),
    "missing-end": Case({"missingEosPenalty": 0.7}, missing_end=0.7),
}


NAMES: Final = tuple(f"ppo-{kind}-{optimizer}" for kind in CASES for optimizer in OPTIMIZERS)


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


def models(root: Path) -> Mapping[str, Path]:
    """The folders that they begin with."""
    heads = {"policy": (7, "lm_head"), "reference": (13, "lm_head"), "value": (17, "score")}
    return {name: once(root / f"ppo-{name}", random_weights(*made)) for name, made in heads.items()}


@dataclass(frozen=True)
class Expected:
    """What the textbook did."""

    updates: list[Update]
    coefficients: list[float]  # of KL, of each step
    policy: Mapping[str, Tensor]  # as they were after the last one


def expected(case: Case, optimizer: str, folders: Mapping[str, Path]) -> Expected:
    """Of the textbook, with the same answers in the same order."""
    policy, value, reference = (
        read(folders[name] / "model.safetensors") for name in ("policy", "value", "reference")
    )
    make = OPTIMIZERS[optimizer].make
    optimizers = make([*policy.values()]), make([*value.values()])
    loop = Textbook(policy, value, reference, optimizers, case.settings)
    updates: list[Update] = []
    coefficients: list[float] = []
    coefficient, per_rollout = case.settings.coefficient, EPOCHS * EPISODES // BATCH
    for rollout in range(-(-STEPS // per_rollout)):
        episodes = [
            replace(episode, score=episode.score - case.missing_end * (len(episode.answer) == MISSING))
            for episode in answers(rollout)
        ]
        loop.settings = replace(case.settings, coefficient=coefficient)
        known = loop.experience(episodes)
        apart = sum(sum(seen.divergence(case.settings.estimator)) for seen in known) / EPISODES
        for epoch in range(EPOCHS):
            numbers = order.permute(
                SEED, rollout * EPOCHS + epoch, np.arange(EPISODES, dtype=np.int64), EPISODES
            ).tolist()
            for first in range(0, EPISODES, BATCH):
                if len(updates) < STEPS:
                    updates.append(loop.update([known[number] for number in numbers[first : first + BATCH]]))
                    coefficients.append(coefficient)
        if case.adaptive:
            coefficient = textbook.adapted(coefficient, apart, 0.01, EPISODES, 20)
    return Expected(updates, coefficients, policy)


def compared(
    name: str, root: Path, folder: Path, *, ranks: int = 1, micro_batch: int = 2, more: Sequence[str] = ()
) -> Compared:
    """Our training of that name with the textbook's; models are in `root`, what is ours in `folder`."""
    kind, _, optimizer = name.removeprefix("ppo-").rpartition("-")
    case, folders = CASES[kind], models(root)
    told = expected(case, optimizer, folders)
    source = in_the_order_of([{"prompt": prompt} for prompt in PROMPTS], folder / "prompts.jsonl")
    shards = pack_conversations(source, folder / "shards", folders["policy"], format=RecordKind.PROMPTS)
    asked = {
        "numIterations": EPOCHS,
        "value": {"uri": str(folders["value"])},
        "reference": {"uri": str(folders["reference"])},
        **case.asked,
    }
    overrides = [
        "stage=ppo",
        f"initFrom={{uri: {folders['policy']}}}",
        "model={contextLength: 256}",
        f"data.seed={SEED}",
        f"rollout={{maxTokens: {MISSING}, generationBatchSize: {EPISODES}}}",
        f"reinforcement={json.dumps(asked)}",
        "reward.functions=[{name: given, length: {}}]",
        f"training.steps={STEPS}",
        f"training.globalBatchSize={BATCH}",
        f"training.microBatchSize={micro_batch}",
        f"training.optimizer={OPTIMIZERS[optimizer].ours}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
        *more,
    ]
    begun = range(0, STEPS, EPOCHS * EPISODES // BATCH)
    rollouts = {step: played(step, number * EPISODES, answers(number)) for number, step in enumerate(begun)}
    config = tiny_config(shards, folder, overrides)
    end: Reinforced = run_ranks(reinforce, ranks, FakeAgent(), config, rollouts)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    np.testing.assert_allclose([row.values["kl/coefficient"] for row in rows], told.coefficients, rtol=1e-6)
    return Compared(_deviations(case, rows, told, folder if optimizer == "sgd" else None), rows)


def _deviations(case: Case, rows: Sequence[StepMetrics], told: Expected, folder: Path | None) -> Deviations:
    """The larger of those of policy and value model; weights judge where there is a `folder`."""
    weight = case.settings.value_weight
    losses, norms = [], []
    for row, update in zip(rows, told.updates, strict=True):
        losses += [
            abs(row.values["policy/loss"] - update.policy_loss),
            abs(weight * row.values["value/loss"] - update.value_loss),
            abs(row.loss - update.policy_loss - update.value_loss) / 2,  # as both are in it
        ]
        norms += [
            abs(row.gradient_norm / update.policy_norm - 1),
            abs(row.values["value/gradient_norm"] / update.value_norm - 1),
        ]
    return Deviations(largest(losses), largest(norms), _apart(folder, told) if folder else None)


def _apart(folder: Path, told: Expected) -> float:
    """The largest difference of a weight of the policy after the last step."""
    export_checkpoint(find_newest_whole(str(folder / "checkpoints")), folder / "exported")
    ours = load_file(str(folder / "exported" / "model.safetensors"))
    return furthest(ours, {name: weight.detach().float() for name, weight in told.policy.items()})
