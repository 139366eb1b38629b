"""`spec.preference`: the loss of stage dpo over preferences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import Rule, allowed_when, forbidden_rule
from footplate_contracts.v1alpha1.references import ReferenceModel
from footplate_contracts.v1alpha1.types import ApiModel

_Weight = Annotated[float, Field(ge=0.0, le=1e6)]


class PreferenceLoss(StrEnum):
    """The losses over preferences, as their papers call them."""

    SIGMOID = "sigmoid"
    HINGE = "hinge"
    IPO = "ipo"
    KTO = "kto"
    ORPO = "orpo"
    SIMPO = "simpo"


class Smoothing(StrEnum):
    """Treatment of preferences that are wrong with some probability."""

    CONSERVATIVE = "conservative"
    ROBUST = "robust"


class LogProbabilities(StrEnum):
    """Reduction of the log-probabilities of an answer's tokens to one number."""

    AVERAGE = "average"
    SUM = "sum"


@dataclass(frozen=True, kw_only=True)
class PreferenceLossRules:
    """Rules of one loss over preferences.

    Attributes:
        defaults: fields of `spec.preference` that it uses, with their defaults.
        needs_reference: True if it compares with a reference model.
        data_format: format of its packed data.
        learns_chosen: True if it also raises the likelihood of chosen answers.
    """

    defaults: Mapping[str, object] = field(default_factory=dict)
    needs_reference: bool = True
    data_format: str = "preferences"
    learns_chosen: bool = False


PREFERENCE_LOSSES: Final[Mapping[PreferenceLoss, PreferenceLossRules]] = {
    PreferenceLoss.SIGMOID: PreferenceLossRules(
        defaults={"label_smoothing": 0.0, "smoothing": Smoothing.CONSERVATIVE}
    ),
    PreferenceLoss.HINGE: PreferenceLossRules(),
    PreferenceLoss.IPO: PreferenceLossRules(defaults={"log_probabilities": LogProbabilities.AVERAGE}),
    PreferenceLoss.KTO: PreferenceLossRules(
        defaults={"desirable_weight": 1.0, "undesirable_weight": 1.0}, data_format="ratings"
    ),
    PreferenceLoss.ORPO: PreferenceLossRules(needs_reference=False, learns_chosen=True),
    PreferenceLoss.SIMPO: PreferenceLossRules(defaults={"beta": 2.0, "margin": 0.5}, needs_reference=False),
}


class Preference(ApiModel):
    """Loss over preferences; log-probabilities are the answer's alone, each against the reference's."""

    loss: PreferenceLoss = PreferenceLoss.SIGMOID
    beta: _Weight | None = Field(
        None,
        description="strength of the pull towards the reference; orpo: weight of the odds ratio; default:"
        " 0.1, and 2 with simpo",
    )
    label_smoothing: Annotated[float, Field(ge=0.0, le=0.5)] | None = Field(
        None, description="sigmoid: probability that a preference is swapped; default: 0"
    )
    smoothing: Smoothing | None = Field(
        None,
        description="sigmoid: conservative: mean of the losses of both orders; robust: unbiased estimate of"
        " the loss without swapped preferences; default: conservative",
    )
    log_probabilities: LogProbabilities | None = Field(
        None, description="ipo: average divides an answer's log-probabilities by its length; default: average"
    )
    margin: Annotated[float, Field(ge=0.0, le=1000.0)] | None = Field(
        None, description="simpo: target margin of the chosen answer; default: 0.5"
    )
    desirable_weight: _Weight | None = Field(None, description="kto: weight of good answers; default: 1")
    undesirable_weight: _Weight | None = Field(None, description="kto: weight of bad answers; default: 1")
    reference: ReferenceModel | None = Field(
        None, description="reference model; not for orpo and simpo; default: the starting weights"
    )

    rules: ClassVar = (
        Rule("!has(self.beta) || self.beta > 0.0", "beta must be above 0, not {self.beta}", field="beta"),
        Rule(
            "!has(self.labelSmoothing) || self.labelSmoothing < 0.5",
            "labelSmoothing must be below 0.5, not {self.labelSmoothing}: more would reverse preferences",
            field="labelSmoothing",
        ),
        allowed_when("labelSmoothing", "loss", PreferenceLoss.SIGMOID),
        allowed_when("smoothing", "loss", PreferenceLoss.SIGMOID),
        allowed_when("logProbabilities", "loss", PreferenceLoss.IPO),
        allowed_when("margin", "loss", PreferenceLoss.SIMPO),
        allowed_when("desirableWeight", "loss", PreferenceLoss.KTO),
        allowed_when("undesirableWeight", "loss", PreferenceLoss.KTO),
        allowed_when(
            "reference",
            "loss",
            PreferenceLoss.SIGMOID,
            PreferenceLoss.HINGE,
            PreferenceLoss.IPO,
            PreferenceLoss.KTO,
        ),
        forbidden_rule(
            "self.loss != 'kto' || !has(self.reference) || !self.reference.precomputed",
            "precomputed does not work with loss kto, which pairs prompts and answers differently in each"
            " epoch; remove it",
            field="reference.precomputed",
        ),
    )
