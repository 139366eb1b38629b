"""Rules for runs of stage generate."""

from __future__ import annotations

from typing import Final

from footplate_contracts.rules import Rule, forbidden_rule, required_rule
from footplate_contracts.v1alpha1.model import architecture_of
from footplate_contracts.v1alpha1.reward import NAMES_A_MODEL
from footplate_contracts.v1alpha1.rollout import SAMPLES

_ONLY: Final = "self.stage != 'generate'"
_ARCHITECTURE: Final = architecture_of("self.model")
_ROLLOUT: Final = f"{_ONLY} || !has(self.rollout)"
_BEST: Final = f"{_ROLLOUT} || !has(self.rollout.output) || !has(self.rollout.output.best)"
_NUM_GENERATIONS: Final = "(has(self.rollout.numGenerations) ? self.rollout.numGenerations : 1)"

GENERATE_RULES: Final = (
    required_rule(
        f"{_ONLY} || has(self.rollout)",
        "rollout is required: settings for the answers of stage generate",
        field="rollout",
    ),
    required_rule(
        f"{_ROLLOUT} || has(self.rollout.output)",
        "output is required: the folder for the answers of stage generate",
        field="rollout.output",
    ),
    required_rule(
        f"{_ONLY} || !has(self.reward) || has(self.reward.functions) || {NAMES_A_MODEL}",
        "reward is empty in stage generate; set a reward model (uri or run), functions, or both, or remove"
        " it",
        field="reward",
    ),
    forbidden_rule(
        f"{_ONLY} || !has(self.reward) || !has(self.reward.normalization)"
        " || self.reward.normalization != 'running'",
        "normalization running would score the first and last answers of a data set with different means;"
        " use heldOut or none",
        field="reward.normalization",
    ),
    Rule(
        f"{_BEST} || has(self.reward)",
        "best {self.rollout.output.best} needs rewards to compare a prompt's answers; set reward, or remove"
        " best",
        field="rollout.output.best",
    ),
    Rule(
        f"{_BEST} || self.rollout.output.best <= {_NUM_GENERATIONS}",
        f"best {{self.rollout.output.best}} is above the {{{_NUM_GENERATIONS}}} answers per prompt of"
        " rollout.numGenerations; lower it",
        field="rollout.output.best",
    ),
    Rule(
        f"{_ONLY} || !has(self.model) || has(self.initFrom) || {_ARCHITECTURE} == 'decoder'",
        f"stage generate needs a decoder, and model.architecture is {{{_ARCHITECTURE}}}; change one of them",
        field="stage",
    ),
    Rule(
        f"{_ROLLOUT} || {SAMPLES} % {_NUM_GENERATIONS} == 0",
        f"generationBatchSize {{{SAMPLES}}} is not a multiple of numGenerations {{{_NUM_GENERATIONS}}}; each"
        " prompt of a rollout gets numGenerations answers",
        field="rollout.generationBatchSize",
    ),
    Rule(
        f"{_ROLLOUT} || !has(self.model) || self.rollout.maxTokens < self.model.contextLength",
        "maxTokens {self.rollout.maxTokens} leaves no room for a prompt in model.contextLength"
        " {self.model.contextLength}; lower it",
        field="rollout.maxTokens",
    ),
    Rule(
        f"{_ROLLOUT} || {_NUM_GENERATIONS} == 1 || self.rollout.sampling.temperature > 0.0",
        f"temperature 0 generates the same answer {{{_NUM_GENERATIONS}}} times for rollout.numGenerations;"
        " set it above 0, or use numGenerations 1",
        field="rollout.sampling.temperature",
    ),
    forbidden_rule(
        f"{_ROLLOUT} || !self.rollout.batchInvariant",
        "batchInvariant is not supported by this release; remove it",
        field="rollout.batchInvariant",
    ),
    forbidden_rule(
        f"{_ONLY} || !has(self.data.sources)",
        "data.sources mixes folders by weight, and stage generate answers each prompt once; pack the"
        " prompts into one folder, and set data.uri to it",
        field="data.sources",
    ),
    *(
        forbidden_rule(f"{_ONLY} || {right}", f"{but}; remove it", field=field)
        for field, right, but in (
            (
                "reward.centering",
                "!has(self.reward) || !has(self.reward.centering)",
                "reward.centering is a field of stage reward, and stage is generate",
            ),
            (
                "resumeFrom",
                "!has(self.resumeFrom)",
                "resumeFrom continues training, which stage generate does not do (initFrom sets its weights)",
            ),
            (
                "data.masking",
                "!has(self.data.masking)",
                "stage generate answers prompts, and data.masking hides parts of text",
            ),
            (
                "training.loss",
                "self.training.loss.name == 'crossEntropy' && self.training.loss.labelSmoothing == 0.0"
                " && self.training.loss.zLoss == 0.0",
                "stage generate has no loss, and training.loss sets one",
            ),
            (
                "validation",
                "!has(self.validation)",
                "stage generate has no loss on held-out prompts for validation",
            ),
        )
    ),
)
