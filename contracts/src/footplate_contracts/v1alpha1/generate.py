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
        "rollout is required: how the answers of stage generate are drawn",
        field="rollout",
    ),
    required_rule(
        f"{_ROLLOUT} || has(self.rollout.output)",
        "output is required: where stage generate leaves its answers",
        field="rollout.output",
    ),
    required_rule(
        f"{_ONLY} || !has(self.reward) || has(self.reward.functions) || {NAMES_A_MODEL}",
        "reward says nothing that rewards the answers of stage generate; state a reward model (uri or run),"
        " functions, or both, or remove it",
        field="reward",
    ),
    forbidden_rule(
        f"{_ONLY} || !has(self.reward) || !has(self.reward.normalization)"
        " || self.reward.normalization != 'running'",
        "normalization running would judge the first answers by another mean and deviation than the last ones"
        " of one data set; use heldOut or none",
        field="reward.normalization",
    ),
    Rule(
        f"{_BEST} || has(self.reward)",
        "best {self.rollout.output.best} keeps a prompt's best answers, and nothing rewards them; state"
        " reward, or remove best",
        field="rollout.output.best",
    ),
    Rule(
        f"{_BEST} || self.rollout.output.best <= {_NUM_GENERATIONS}",
        f"best {{self.rollout.output.best}} is more than the {{{_NUM_GENERATIONS}}} answers to a prompt that"
        " rollout.numGenerations asks for; lower it",
        field="rollout.output.best",
    ),
    Rule(
        f"{_ONLY} || !has(self.model) || has(self.initFrom) || {_ARCHITECTURE} == 'decoder'",
        f"stage generate draws from decoders, and model.architecture is {{{_ARCHITECTURE}}}; change one of"
        " them",
        field="stage",
    ),
    Rule(
        f"{_ROLLOUT} || {SAMPLES} % {_NUM_GENERATIONS} == 0",
        f"generationBatchSize {{{SAMPLES}}} is not a multiple of numGenerations {{{_NUM_GENERATIONS}}}; each"
        " prompt of a rollout has all answers of its group",
        field="rollout.generationBatchSize",
    ),
    Rule(
        f"{_ROLLOUT} || !has(self.model) || self.rollout.maxTokens < self.model.contextLength",
        "maxTokens {self.rollout.maxTokens} leaves a prompt no room in model.contextLength"
        " {self.model.contextLength}; lower it",
        field="rollout.maxTokens",
    ),
    Rule(
        f"{_ROLLOUT} || {_NUM_GENERATIONS} == 1 || self.rollout.sampling.temperature > 0.0",
        f"temperature 0 draws the same answer {{{_NUM_GENERATIONS}}} times, as rollout.numGenerations asks;"
        " give one above 0, or numGenerations 1",
        field="rollout.sampling.temperature",
    ),
    forbidden_rule(
        f"{_ROLLOUT} || !self.rollout.batchInvariant",
        "batchInvariant is not supported by this release; remove it",
        field="rollout.batchInvariant",
    ),
    forbidden_rule(
        f"{_ONLY} || !has(self.data.sources)",
        "data.sources take turns by their weights, and stage generate asks each prompt once; pack the prompts"
        " into one folder, and name it in data.uri",
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
                "resumeFrom goes on with training, and stage generate trains nothing: initFrom names the"
                " weights that answer",
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
                "stage generate minimises nothing, and training.loss says what",
            ),
            (
                "validation",
                "!has(self.validation)",
                "stage generate has no loss on held-out prompts, which validation asks for",
            ),
        )
    ),
)
