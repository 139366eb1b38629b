"""Trainings by TRL that tests compare with, each with the same loss by ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

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
from bench.posttraining.parity.golden import sums
from bench.posttraining.parity.oracle import Rollout, Run, lower_adapter
from bench.posttraining.parity.stages import PAIRS as MORE_PAIRS
from bench.posttraining.parity.stages import once
from torch import Tensor

from footplate_trainer.model.objectives.advantages import batch_deviation, group_mean
from footplate_trainer.model.objectives.policy import constant_length, token_mean
from footplate_trainer.model.objectives.preference import hinge_loss, robust_loss, sigmoid_loss
from tests.support.plain_llama import Weights, random_weights

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


RATE: Final = 1e-2  # `process.COMMON` has the same
# What models begin with: the seed of their weights, and their head.
STARTS: Final = {"lm_head": (7, "lm_head"), "score": (7, "score"), "another": (13, "lm_head")}


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
class Trajectory:
    """Our steps of a case, in fp64."""

    losses: list[float]
    gradient_norms: list[float]
    weights: list[list[float]]  # sums, after each step


def runs_of(root: Path) -> dict[str, Run]:
    """The trainings of all cases, with models in `root`."""
    folders = {name: once(root / name, random_weights(*start)) for name, start in STARTS.items()}
    return {name: case.run(folders) for name, case in CASES.items()}


def trajectory(case: Case) -> Trajectory:
    """What SGD with our formulas does, from where TRL begins."""
    head = "score" if case.trainer == "reward" else "lm_head"
    reference = _leaves(random_weights(*STARTS[head if head == "score" else case.reference]))
    trained = _adapters(reference) if case.adapters else _leaves(random_weights(*STARTS[head]))
    made, old = Trajectory([], [], []), trained
    for step in range(case.settings["max_steps"]):
        weights = _merged(reference, trained) if case.adapters else trained
        if isinstance(case.loss, Policy):
            old = trained if step % case.updates == 0 else old
            loss = case.loss.loss(weights, old, reference, ROLLOUTS[step // case.updates])
        else:
            rows = case.rows if case.whole else case.rows[step * ROWS_OF_A_STEP : (step + 1) * ROWS_OF_A_STEP]
            loss = case.loss(weights, reference, rows)
        gradients = torch.autograd.grad(loss, list(trained.values()))
        trained = _leaves(
            {
                name: weight.detach() - RATE * gradient
                for (name, weight), gradient in zip(trained.items(), gradients, strict=True)
            }
        )
        made.losses.append(loss.item())
        squares = torch.stack([gradient.square().sum() for gradient in gradients])
        made.gradient_norms.append(squares.sum().sqrt().item())
        made.weights.append(sums(trained))
    return made


def _leaves(weights: Weights) -> dict[str, Tensor]:
    return {name: weight.to(torch.float64).requires_grad_() for name, weight in weights.items()}


def _adapters(base: Weights) -> dict[str, Tensor]:
    """LoRA's weights as they begin, by the names that peft gives them."""
    made: dict[str, Tensor] = {}
    for where, weight in base.items():
        name = where.removesuffix(".weight")
        if name.endswith(tuple(ADAPTERS["target_modules"])):
            outputs, inputs = weight.shape
            lower, upper = (f"base_model.model.{name}.lora_{side}.default.weight" for side in "AB")
            made[lower] = lower_adapter(lower, (ADAPTERS["r"], inputs))
            made[upper] = torch.zeros(outputs, ADAPTERS["r"])
    return _leaves(made)


def _merged(base: Weights, adapters: Weights) -> Weights:
    """Weights with LoRA's product added where it stands."""
    weights = dict(base)
    for name, upper in adapters.items():
        if ".lora_B." in name:
            where = name.removeprefix("base_model.model.").replace(".lora_B.default", "")
            scale = ADAPTERS["lora_alpha"] / ADAPTERS["r"]
            weights[where] = base[where] + scale * upper @ adapters[name.replace("lora_B", "lora_A")]
    return weights
