"""Trainings by TRL that tests compare with, each with the same loss by ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from bench.posttraining.parity.formulas import (
    GROUP,
    Formula,
    Loss,
    Policy,
    Row,
    ipo,
    kto,
    of_pairs,
    opened,
    orpo,
    reward,
    sft,
    simpo,
)
from bench.posttraining.parity.oracle import Rollout, Run, Seen, once, seen, shared_root
from bench.posttraining.parity.stages import LONG, QUICK, case_of, models, runs_of
from bench.posttraining.parity.stages import PAIRS as MORE_PAIRS

from footplate_trainer.model.objectives.advantages import batch_deviation, group_mean
from footplate_trainer.model.objectives.policy import constant_length, token_mean
from footplate_trainer.model.objectives.preference import hinge_loss, robust_loss, sigmoid_loss
from tests.support.plain_llama import random_weights, write

STEPS, ROWS_OF_A_STEP, PROMPTS_OF_A_STEP = 3, 4, 2
STEP_OF_TWO: Final = {"max_steps": STEPS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
STEP_OF_ONE: Final = {"max_steps": STEPS, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
ADAPTERS: Final = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


PAIRS = MORE_PAIRS[: STEPS * ROWS_OF_A_STEP]
RATED = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for row in PAIRS
    for side in ("chosen", "rejected")
]
MARGINS = [row | {"margin": n % 3 / 4} for n, row in enumerate(PAIRS)]
CHATS = [{"messages": row["prompt"] + row["chosen"]} for row in PAIRS]
ANSWERED = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS]
PROMPTS = [{"prompt": row["prompt"]} for row in PAIRS]


def sampled(call: int) -> Rollout:
    generator = torch.Generator().manual_seed(call)
    asked = PROMPTS[call * PROMPTS_OF_A_STEP : (call + 1) * PROMPTS_OF_A_STEP]
    lengths = torch.randint(2, 9, (GROUP * len(asked),), generator=generator).tolist()
    answers = [torch.randint(0, 256, (length,), generator=generator).tolist() for length in lengths]
    return Rollout(
        [opened(row["prompt"]) for row in asked for _ in range(GROUP)],
        answers,
        [float(sum(ids) % 7) for ids in answers],
    )


ROLLOUTS = [sampled(call) for call in range(len(PROMPTS) // PROMPTS_OF_A_STEP)]


# -- the cases -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A run of TRL, and the same loss by ours."""

    trainer: str
    rows: Sequence[Row]
    settings: Mapping[str, Any]
    loss: Loss | Policy
    updates: int = 1  # of each rollout
    adapters: Mapping[str, Any] | None = None
    reference: str = "lm_head"
    whole: bool = False  # all rows in each step

    def run(self, folders: Mapping[str, Path]) -> Run:
        return Run(
            self.trainer,
            folders["score" if self.trainer == "reward" else "lm_head"],
            self.rows,
            self.settings,
            reference=None if self.reference == "lm_head" else folders[self.reference],
            adapters=self.adapters,
            rollouts=ROLLOUTS if isinstance(self.loss, Policy) else (),
        )


def dpo(kind: str, formula: Formula, **settings: Any) -> Case:
    return Case("dpo", PAIRS, {**STEP_OF_TWO, "loss_type": [kind], **settings}, partial(of_pairs, formula))


def grpo(policy: Policy, updates: int = 1, **settings: Any) -> Case:
    step = {
        "max_steps": STEPS,
        "per_device_train_batch_size": GROUP,
        "gradient_accumulation_steps": PROMPTS_OF_A_STEP,
        "num_generations": GROUP,
        "max_completion_length": 16,
        "num_iterations": updates,
        "beta": 0.0,
    }
    return Case("grpo", PROMPTS, {**step, **settings}, policy, updates)


CASES: Final[Mapping[str, Case]] = {
    "sft-all": Case("sft", CHATS, STEP_OF_TWO, partial(sft, "all")),
    "sft-assistant": Case(
        "sft", CHATS, {**STEP_OF_TWO, "assistant_only_loss": True}, partial(sft, "assistant")
    ),
    "sft-completion": Case(
        "sft", ANSWERED, {**STEP_OF_TWO, "completion_only_loss": True}, partial(sft, "completion")
    ),
    "sft-packed": Case(
        "sft",
        CHATS,
        {
            "max_steps": 1,
            "per_device_train_batch_size": len(CHATS),
            "packing": True,
            "max_length": 256,
            "assistant_only_loss": True,
        },
        partial(sft, "assistant"),
        whole=True,
    ),
    "reward": Case("reward", MARGINS, {**STEP_OF_TWO, "center_rewards_coefficient": 0.01}, reward),
    "dpo-sigmoid": dpo("sigmoid", lambda c, r: sigmoid_loss(c, r, 0.1)),
    # TRL's sigmoid passes over its smoothing; aot sorts the pairs of a micro-batch, of which one is sorted.
    "dpo-conservative": dpo(
        "aot",
        lambda c, r: sigmoid_loss(c, r, 0.1, 0.2),
        label_smoothing=0.2,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
    ),
    "dpo-robust": dpo("robust", lambda c, r: robust_loss(c, r, 0.1, 0.2), label_smoothing=0.2),
    "dpo-hinge": dpo("hinge", lambda c, r: hinge_loss(c, r, 0.1)),
    "dpo-ipo": Case("dpo", PAIRS, {**STEP_OF_TWO, "loss_type": ["ipo"]}, ipo),
    "dpo-of-another-reference": replace(
        dpo("sigmoid", lambda c, r: sigmoid_loss(c, r, 0.1)), reference="another"
    ),
    "dpo-adapters": Case(
        "dpo", PAIRS, STEP_OF_TWO, partial(of_pairs, lambda c, r: sigmoid_loss(c, r, 0.1)), adapters=ADAPTERS
    ),
    # TRL takes KTO's KL and ORPO's mean over tokens of a micro-batch, so that has to be the whole step.
    "kto": Case("kto", RATED, {**STEP_OF_ONE, "undesirable_weight": 0.7}, partial(kto, undesirable=0.7)),
    "kto-of-another-reference": Case("kto", RATED, STEP_OF_ONE, kto, reference="another"),
    "orpo": Case("orpo", PAIRS, STEP_OF_ONE, orpo),
    "simpo": Case("simpo", PAIRS, {**STEP_OF_TWO, "beta": 2.0, "simpo_gamma": 0.5}, simpo),
    # TRL multiplies the KL by the ratio unless it is told not to.
    "grpo": grpo(Policy(divergence=0.1), loss_type="grpo", beta=0.1, use_bias_correction_kl=False),
    "grpo-batch-deviation": grpo(Policy(batch_deviation), loss_type="grpo", scale_rewards="batch"),
    "dapo": grpo(Policy(aggregation=token_mean, high=0.28), loss_type="dapo", epsilon_high=0.28),
    "dr-grpo-twice": grpo(
        Policy(group_mean, partial(constant_length, longest=16)),
        updates=2,
        loss_type="dr_grpo",
        scale_rewards="none",
    ),
    "gspo-twice": grpo(
        Policy(ratios="sequence"), updates=2, loss_type="grpo", importance_sampling_level="sequence"
    ),
}


@dataclass(frozen=True)
class Answers:
    """What TRL did in each case, and the folders of the models that it began with."""

    seen: Mapping[str, Seen]
    folders: Mapping[str, Path]  # by head, or "another"


def answers(factory: pytest.TempPathFactory) -> Answers:
    """Of all cases; computed once in a session, whichever of its processes asks first."""
    root = shared_root(factory)
    made = {
        "lm_head": once(root / "lm_head", lambda folder: write(folder, random_weights(7))),
        "score": once(root / "score", lambda folder: write(folder, random_weights(7, "score"))),
        "another": once(root / "another", lambda folder: write(folder, random_weights(13))),
    }
    runs = {name: case.run(made) for name, case in CASES.items()}
    return Answers(seen(runs | stage_runs(QUICK, root), root), made)


def stage_runs(names: Iterable[str], root: Path) -> dict[str, Run]:
    """Those of `stages`, under names that no case has."""
    return {f"stage-{name}": run for name, run in runs_of(names, root).items()}


def told_of_stage(name: str, factory: pytest.TempPathFactory) -> tuple[Seen, Path]:
    """What TRL did under that name of `stages`, and the folder that it began with.

    All of its trainings that are not quick run at once, whoever asks first.
    """
    root = shared_root(factory)
    known = answers(factory).seen if name in QUICK else seen(stage_runs(LONG, root), root)
    return known[f"stage-{name}"], models(root)[case_of(name)[0].model]
