"""Trainings by TRL that stage dpo repeats: all of its losses, with two optimizers.

The template ends with the token that ends a turn: a line end behind it TRL counts to the answer, and with us
it belongs to nobody. Where TRL takes a mean of a micro-batch (kto, orpo), its micro-batch is the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.plain_llama import random_weights, write
from tests.support.trl_oracle import Run, Seen, once, seen, shared_root

STEPS, OF_A_STEP = 5, 4
TEMPLATE: Final = (
    "{% for message in messages %}{{ ('' if loop.first else '\n') + '<|im_start|>' + message['role'] }}"
    "{{ '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def _said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


PAIRS: Final = [
    {
        "prompt": _said("user", f"What is {a} plus {b}?"),
        "chosen": _said("assistant", f"It is {a + b}."),
        "rejected": _said("assistant", f"I think that it is {a * b + 1}, or so."),
    }
    for a in range(2, 2 + STEPS)
    for b in range(1, 1 + OF_A_STEP)
]
RATED: Final = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for number, row in enumerate(PAIRS)
    for side in (("chosen", "rejected")[number % 3 == 1],)
]
OPTIMIZERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sgd": {},
    "adamw": {"optim": "adamw_torch", "learning_rate": 1e-3},
}
_BY_TWO: Final = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
_AT_ONCE: Final = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}


@dataclass(frozen=True)
class Case:
    """A loss as TRL has it, and the same one as ours."""

    trainer: str
    settings: Mapping[str, Any]  # of TRL
    preference: str  # ours
    more: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=lambda: PAIRS)


CASES: Final[Mapping[str, Case]] = {
    "sigmoid": Case("dpo", {**_BY_TWO, "loss_type": ["sigmoid"]}, "{}"),
    # TRL's sigmoid passes over its smoothing; aot sorts the pairs of a micro-batch, of which one is sorted.
    "conservative": Case(
        "dpo",
        {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 4,
            "loss_type": ["aot"],
            "label_smoothing": 0.2,
        },
        "{labelSmoothing: 0.2}",
    ),
    "robust": Case(
        "dpo",
        {**_BY_TWO, "loss_type": ["robust"], "label_smoothing": 0.2},
        "{labelSmoothing: 0.2, smoothing: robust}",
    ),
    "hinge": Case("dpo", {**_BY_TWO, "loss_type": ["hinge"]}, "{loss: hinge}"),
    "ipo": Case("dpo", {**_BY_TWO, "loss_type": ["ipo"]}, "{loss: ipo}"),
    "kto": Case(
        "kto", {**_AT_ONCE, "undesirable_weight": 0.7}, "{loss: kto, undesirableWeight: 0.7}", rows=RATED
    ),
    "orpo": Case("orpo", _AT_ONCE, "{loss: orpo}", ("data.mask=all",)),
    "simpo": Case("simpo", {**_BY_TWO, "beta": 2.0, "simpo_gamma": 0.5}, "{loss: simpo}"),
}
NAMES: Final = tuple(f"{case}-{optimizer}" for case in CASES for optimizer in OPTIMIZERS)
QUICK: Final = ("sigmoid-sgd", "kto-sgd")  # these run in one process with all other trainings by TRL
_LONG: Final = tuple(name for name in NAMES if name not in QUICK)


def model_of_pairs(root: Path) -> Path:
    """The folder that all of them begin with."""
    return once(root / "pairs-model", lambda folder: write(folder, random_weights(7), template=TEMPLATE))


def run_of(name: str, model: Path) -> Run:
    """The training of that name."""
    kind, _, optimizer = name.rpartition("-")
    case = CASES[kind]
    settings = {"max_steps": STEPS, **case.settings, **OPTIMIZERS[optimizer]}
    return Run(case.trainer, model, case.rows, settings)


def seen_of_long(name: str, factory: pytest.TempPathFactory) -> Seen:
    """What TRL did in one that is not quick; all of these at once, whoever asks first."""
    root = shared_root(factory)
    model = model_of_pairs(root)
    return seen({other: run_of(other, model) for other in _LONG}, root)[name]
