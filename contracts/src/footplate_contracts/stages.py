"""Rules of each stage: the sections of its spec, its data, and the runs that may begin with its result.

A new stage is one record here, a member of `Stage`, and one row of the trainer's `stages/programs.py`. The
CRD's rules, defaults, data sets, the checks between runs, the determinism key and plans read the record.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.v1alpha1.references import ReferenceField
from footplate_contracts.v1alpha1.training import Stage


class Product(StrEnum):
    """Result of a run that another run may use."""

    LANGUAGE_MODEL = "languageModel"
    REWARD_MODEL = "rewardModel"  # one score a text
    ANSWERS = "answers"  # a data set


@dataclass(frozen=True, kw_only=True)
class StageRules:
    """Rules of one stage.

    Attributes:
        stage: its name in a spec.
        fields: fields of the spec that only some stages have, and that this one has.
        data_format: format of its packed data; empty: the format that training.loss reads.
        uses_conversations: True if it learns from whole samples of conversations.
        trains: True if its steps change weights.
        decoders_only: True if it takes no other architecture.
        validates: True if its runs have a validation loss, and so a best checkpoint.
        product: what its runs give to other runs.
        starts_from: products that its `initFrom` may name.
        has_value_model: True if a value model is trained beside the policy.
    """

    stage: str
    fields: frozenset[str] = frozenset()
    data_format: str = ""
    uses_conversations: bool = False
    trains: bool = True
    decoders_only: bool = True
    validates: bool = True
    product: Product = Product.LANGUAGE_MODEL
    starts_from: frozenset[Product] = frozenset({Product.LANGUAGE_MODEL})
    has_value_model: bool = False

    @property
    def has_score_head(self) -> bool:
        """True if its model gives a text one score instead of logits."""
        return self.product is Product.REWARD_MODEL

    @property
    def compares(self) -> bool:
        """True if it learns from preferences by `spec.preference`."""
        return "preference" in self.fields

    @property
    def reinforces(self) -> bool:
        """True if it learns from rewards of its own answers."""
        return "reinforcement" in self.fields

    @property
    def reference_field(self) -> str:
        """Field of the spec that names its reference model."""
        return f"{'preference' if self.compares else 'reinforcement'}.reference.uri"


_REINFORCES: Final = frozenset({"reward", "reinforcement", "rollout"})
_RULES: Final = (
    StageRules(stage=Stage.PRETRAIN, decoders_only=False),
    StageRules(
        stage=Stage.SFT,
        fields=frozenset({"data.mask", "data.overlong", "data.run", "training.neftune"}),
        data_format="chat",
        uses_conversations=True,
    ),
    StageRules(
        stage=Stage.REWARD,
        fields=frozenset({"data.overlong", "reward"}),
        data_format="preferences",
        uses_conversations=True,
        product=Product.REWARD_MODEL,
        starts_from=frozenset({Product.LANGUAGE_MODEL, Product.REWARD_MODEL}),
    ),
    StageRules(
        stage=Stage.DPO,
        fields=frozenset({"data.mask", "data.overlong", "preference"}),
        data_format="preferences",
        uses_conversations=True,
    ),
    StageRules(
        stage=Stage.PPO,
        fields=_REINFORCES,
        data_format="prompts",
        validates=False,
        has_value_model=True,
    ),
    StageRules(stage=Stage.GRPO, fields=_REINFORCES, data_format="prompts", validates=False),
    StageRules(
        stage=Stage.GENERATE,
        fields=frozenset({"reward", "rollout"}),
        data_format="prompts",
        trains=False,
        validates=False,
        product=Product.ANSWERS,
    ),
)
STAGES: Final[Mapping[Stage, StageRules]] = {Stage(rules.stage): rules for rules in _RULES}
DEFAULT_STAGE: Final = Stage.PRETRAIN
SCORING_STAGE: Final = Stage.REWARD  # whose network a reward model and a value model have


def stages_with(field: str) -> tuple[str, ...]:
    """Return the stages whose spec may have `field`, in their usual order."""
    return tuple(str(stage) for stage, rules in STAGES.items() if field in rules.fields)


def usable_products(field: ReferenceField, rules: StageRules) -> frozenset[Product]:
    """Return the products that a run with these `rules` may name in `field`."""
    match field:
        case ReferenceField.INIT_FROM:
            return rules.starts_from
        case ReferenceField.PREFERENCE | ReferenceField.REINFORCEMENT:
            return frozenset({Product.LANGUAGE_MODEL})
        case ReferenceField.REWARD | ReferenceField.VALUE:
            return frozenset({Product.REWARD_MODEL})
        case ReferenceField.DATA:
            return frozenset({Product.ANSWERS})


def stages_giving(products: Collection[Product]) -> tuple[str, ...]:
    """Return the stages whose runs give one of `products`, by name."""
    return tuple(sorted(str(stage) for stage, rules in STAGES.items() if rules.product in products))
