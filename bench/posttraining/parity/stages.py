"""Trainings by TRL that our stages repeat: sft, reward and dpo in all their kinds, with two optimizers.

The template ends with the token that ends a turn: a line end behind it TRL counts to the answer, and with us
it belongs to nobody. Where TRL takes a mean of a micro-batch (kto, orpo), its micro-batch is the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.posttraining.parity.oracle import Run

from footplate_contracts.v1alpha1.data import LossMask
from footplate_trainer.data.layout import RecordKind
from tests.support.plain_llama import TEMPLATE as TURNS
from tests.support.plain_llama import Weights, random_weights, write

STEPS, OF_A_STEP, CONTEXT = 5, 4, 256
TEMPLATE: Final = (
    "{% for message in messages %}{{ ('' if loop.first else '\n') + '<|im_start|>' + message['role'] }}"
    "{{ '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)
Rows = Sequence[Mapping[str, Any]]


def said(role: str, content: str) -> list[dict[str, str]]:
    """A conversation of one turn."""
    return [{"role": role, "content": content}]


PAIRS: Final[list[dict[str, Any]]] = [
    {
        "prompt": said("user", f"What is {a} plus {b}?"),
        "chosen": said("assistant", f"It is {a + b}."),
        "rejected": said("assistant", f"I think that it is {a * b + 1}, or so."),
    }
    for a in range(2, 2 + STEPS)
    for b in range(1, 1 + OF_A_STEP)
]
MARGINS: Final = [row | {"margin": number % 3 / 4} for number, row in enumerate(PAIRS)]
CHATS: Final = [{"messages": row["prompt"] + row["chosen"]} for row in PAIRS]
# An answer within the prompt, which is none of what is learnt.
ANSWERED: Final = [
    {"prompt": [*row["prompt"], *row["rejected"], *said("user", "Is it?")], "completion": row["chosen"]}
    for row in PAIRS
]
RATED: Final = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for number, row in enumerate(PAIRS)
    for side in (("chosen", "rejected")[number % 3 == 1],)
]


@dataclass(frozen=True)
class Optimizer:
    """As TRL is told of it, and as ours is."""

    settings: Mapping[str, Any]
    ours: str


OPTIMIZERS: Final[Mapping[str, Optimizer]] = {
    "sgd": Optimizer({}, "{name: sgd, learningRate: 0.01}"),
    "adamw": Optimizer(
        {"optim": "adamw_torch", "learning_rate": 1e-3},
        "{name: adamw, learningRate: 0.001, betas: [0.9, 0.999], epsilon: 1.0e-8, weightDecay: 0.0}",
    ),
}
_BY_TWO: Final = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
_AT_ONCE: Final = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
# All rows in each step, as nobody says which of them share a sequence.
_PACKED: Final = {"per_device_train_batch_size": len(CHATS), "packing": True, "max_length": CONTEXT}


@dataclass(frozen=True)
class Case:
    """A training as TRL has it, and the same one as ours."""

    trainer: str
    settings: Mapping[str, Any]  # of TRL
    ours: tuple[str, ...]
    rows: Rows = field(default_factory=lambda: PAIRS)
    format: RecordKind = RecordKind.PREFERENCES
    mask: LossMask = LossMask.ASSISTANT
    packed: bool = False

    @property
    def head(self) -> str:
        """Of the model that it begins with."""
        return "score" if self.trainer == "reward" else "lm_head"


def _sft(mask: LossMask, rows: Rows = CHATS, *, packed: bool = False, **settings: Any) -> Case:
    step = _PACKED if packed else _BY_TWO
    return Case("sft", {**step, **settings}, ("stage=sft",), rows, RecordKind.CHAT, mask, packed)


def _reward(rows: Rows, centring: float = 0.0) -> Case:
    settings = {**_BY_TWO, "center_rewards_coefficient": centring or None}
    return Case("reward", settings, ("stage=reward", f"reward={{centering: {centring}}}"), rows)


def _dpo(preference: str, **settings: Any) -> Case:
    return Case("dpo", {**_BY_TWO, **settings}, ("stage=dpo", f"preference={preference}"))


CASES: Final[Mapping[str, Case]] = {
    "sft-assistant": _sft(LossMask.ASSISTANT, assistant_only_loss=True),
    "sft-completion": _sft(LossMask.COMPLETION, ANSWERED, completion_only_loss=True),
    "sft-all": _sft(LossMask.ALL),
    "sft-packed": _sft(LossMask.ASSISTANT, packed=True, assistant_only_loss=True),
    "reward": _reward(PAIRS),
    "reward-margin": _reward(MARGINS),
    "reward-centring": _reward(PAIRS, 0.01),
    "reward-margin-centring": _reward(MARGINS, 0.01),
    "dpo-sigmoid": _dpo("{}", loss_type=["sigmoid"]),
    # TRL's sigmoid passes over its smoothing; aot sorts the pairs of a micro-batch, of which one is sorted.
    "dpo-conservative": _dpo(
        "{labelSmoothing: 0.2}",
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        loss_type=["aot"],
        label_smoothing=0.2,
    ),
    "dpo-robust": _dpo("{labelSmoothing: 0.2, smoothing: robust}", loss_type=["robust"], label_smoothing=0.2),
    "dpo-hinge": _dpo("{loss: hinge}", loss_type=["hinge"]),
    "dpo-ipo": _dpo("{loss: ipo}", loss_type=["ipo"]),
    "dpo-kto": Case(
        "kto",
        {**_AT_ONCE, "undesirable_weight": 0.7},
        ("stage=dpo", "preference={loss: kto, undesirableWeight: 0.7}"),
        RATED,
        RecordKind.RATINGS,
    ),
    "dpo-orpo": Case("orpo", _AT_ONCE, ("stage=dpo", "preference={loss: orpo}", "data.mask=all")),
    "dpo-simpo": Case(
        "simpo", {**_BY_TWO, "beta": 2.0, "simpo_gamma": 0.5}, ("stage=dpo", "preference={loss: simpo}")
    ),
}
NAMES: Final = tuple(f"{case}-{optimizer}" for case in CASES for optimizer in OPTIMIZERS)
# `make test` asks for these, `make test-long` for all.
QUICK: Final = (
    "sft-assistant-sgd",
    "sft-all-sgd",
    "sft-packed-sgd",
    "reward-margin-centring-sgd",
    "dpo-sigmoid-sgd",
    "dpo-kto-sgd",
)


def once(folder: Path, weights: Weights, template: str = TURNS) -> Path:
    """`folder` with a model, which is there or is written."""
    return folder if folder.exists() else write(folder, weights, template=template)


def case_of(name: str) -> tuple[Case, str]:
    """What is trained under this name, and the name of its optimizer."""
    kind, _, optimizer = name.rpartition("-")
    return CASES[kind], optimizer


def runs_of(names: Iterable[str], root: Path) -> dict[str, Run]:
    """The trainings of these names, with models in `root`."""
    runs = {}
    for name in names:
        case, optimizer = case_of(name)
        model = once(root / f"stage-{case.head}", random_weights(7, case.head), TEMPLATE)
        settings = {"max_steps": STEPS, **case.settings, **OPTIMIZERS[optimizer].settings}
        runs[name] = Run(case.trainer, model, case.rows, settings)
    return runs
