"""Rules for runs of stages that learn from their own answers, and those of grpo alone."""

from __future__ import annotations

from typing import Final

from footplate_contracts.rules import Rule, forbidden_rule, required_rule
from footplate_contracts.v1alpha1.model import architecture_of
from footplate_contracts.v1alpha1.reward import NAMES_A_MODEL
from footplate_contracts.v1alpha1.rollout import SAMPLES

_ONLY: Final = "!(self.stage in ['ppo', 'grpo'])"
_GRPO: Final = "self.stage != 'grpo'"
_ARCHITECTURE: Final = architecture_of("self.model")
_LEARNING: Final = f"{_ONLY} || !has(self.reinforcement)"
_ROLLOUT: Final = f"{_ONLY} || !has(self.rollout)"
_LEARNING_GRPO: Final = f"{_GRPO} || !has(self.reinforcement)"
_NUM_GENERATIONS: Final = (
    "(has(self.rollout.numGenerations) ? self.rollout.numGenerations : (self.stage == 'grpo' ? 8 : 1))"
)
_ITERATIONS: Final = (
    "(has(self.reinforcement) && has(self.reinforcement.numIterations) ? self.reinforcement.numIterations"
    " : (self.stage == 'grpo' ? 1 : 4))"
)
_COEFFICIENT: Final = (
    "(has(self.reinforcement.kl.coefficient) ? self.reinforcement.kl.coefficient"
    " : (self.stage == 'grpo' ? 0.0 : 0.05))"
)
_PLACEMENT: Final = (
    "(has(self.reinforcement.kl.placement) ? self.reinforcement.kl.placement"
    " : (self.stage == 'grpo' ? 'loss' : 'reward'))"
)
_OF_PPO: Final = ("scorePosition", "gamma", "gaeLambda", "whitening", "missingEosPenalty", "value")

GRPO_RULES: Final = (
    forbidden_rule(
        "!has(self.reinforcement) || self.stage in ['ppo', 'grpo']",
        "reinforcement is for stages ppo and grpo, and stage is {self.stage}; remove it",
        field="reinforcement",
    ),
    required_rule(
        f"{_ONLY} || has(self.rollout)",
        "rollout is required: settings for the answers that stage {self.stage} learns from",
        field="rollout",
    ),
    required_rule(
        f"{_ONLY} || (has(self.reward) && (has(self.reward.functions) || {NAMES_A_MODEL}))",
        "reward is required: stage {self.stage} needs a reward model (uri or run), functions, or both to"
        " score its answers",
        field="reward",
    ),
    Rule(
        f"{_ONLY} || !has(self.model) || has(self.initFrom) || {_ARCHITECTURE} == 'decoder'",
        f"stage {{self.stage}} trains decoders, and model.architecture is {{{_ARCHITECTURE}}}; change one of"
        " them",
        field="stage",
    ),
    Rule(
        f"{_ROLLOUT} || {SAMPLES} % {_NUM_GENERATIONS} == 0",
        f"generationBatchSize {{{SAMPLES}}} is not a multiple of numGenerations {{{_NUM_GENERATIONS}}}; each"
        " prompt of a rollout gets numGenerations answers",
        field="rollout.generationBatchSize",
    ),
    Rule(
        f"{_GRPO} || !has(self.rollout) || {_NUM_GENERATIONS} > 1",
        "numGenerations 1 leaves no other answer to compare with; use at least 2",
        field="rollout.numGenerations",
    ),
    Rule(
        f"{_ROLLOUT} || ({SAMPLES} * {_ITERATIONS}) % self.training.globalBatchSize == 0",
        f"generationBatchSize {{{SAMPLES}}} x numIterations {{{_ITERATIONS}}} cannot be split into steps of"
        " globalBatchSize {self.training.globalBatchSize} answers; change one of them",
        field="rollout.generationBatchSize",
    ),
    Rule(
        f"{_ROLLOUT} || {SAMPLES} >= self.training.globalBatchSize",
        f"generationBatchSize {{{SAMPLES}}} is below the globalBatchSize {{self.training.globalBatchSize}}"
        " answers of a step, which would repeat answers; raise it, or lower globalBatchSize",
        field="rollout.generationBatchSize",
    ),
    Rule(
        f"{_ROLLOUT} || !has(self.model) || self.rollout.maxTokens < self.model.contextLength",
        "maxTokens {self.rollout.maxTokens} leaves no room for a prompt in model.contextLength"
        " {self.model.contextLength}; lower it",
        field="rollout.maxTokens",
    ),
    Rule(
        f"{_ROLLOUT} || self.rollout.sampling.temperature > 0.0",
        "temperature 0 generates the same answer for a whole group; set it above 0",
        field="rollout.sampling.temperature",
    ),
    forbidden_rule(
        f"{_ROLLOUT} || !has(self.rollout.output)",
        "output is for stage generate, and stage is {self.stage}; remove it",
        field="rollout.output",
    ),
    *(
        forbidden_rule(
            f"{_ONLY} || !has(self.model) || {guard}self.model.{field} == 0.0",
            "stage {self.stage} compares its model with the generating one, which uses no dropout, and"
            f" model.{field} is {{self.model.{field}}}; remove it",
            field=f"model.{field}",
        )
        for field, guard in (
            *((f"dropout.{part}", "") for part in ("hidden", "attention", "embedding")),
            ("adapter.dropout", "!has(self.model.adapter) || "),
        )
    ),
    *(
        forbidden_rule(
            f"{_LEARNING_GRPO} || !has(self.reinforcement.{field})",
            f"{field} is a field of stage ppo, and stage is grpo; remove it",
            field=f"reinforcement.{field}",
        )
        for field in _OF_PPO
    ),
    Rule(
        f"{_LEARNING} || !has(self.reinforcement.overlongTokens) || !has(self.rollout)"
        " || self.reinforcement.overlongTokens <= self.rollout.maxTokens",
        "overlongTokens {self.reinforcement.overlongTokens} is above rollout.maxTokens"
        " {self.rollout.maxTokens}; lower it",
        field="reinforcement.overlongTokens",
    ),
    forbidden_rule(
        f"{_LEARNING_GRPO} || !has(self.reinforcement.kl.placement)"
        " || self.reinforcement.kl.placement == 'loss'",
        "kl.placement {self.reinforcement.kl.placement} is for stage ppo, and stage is grpo; use loss",
        field="reinforcement.kl.placement",
    ),
    forbidden_rule(
        f"{_LEARNING} || !has(self.reinforcement.kl.estimator) || self.reinforcement.kl.estimator != 'k1'"
        f" || {_PLACEMENT} != 'loss'",
        "kl.estimator k1 has no gradient in expectation when the KL is part of the loss; use k2 or k3",
        field="reinforcement.kl.estimator",
    ),
    Rule(
        f"{_LEARNING} || !has(self.reinforcement.kl.target) || {_COEFFICIENT} > 0.0",
        "kl.target scales kl.coefficient, which is 0; set that above 0, or remove target",
        field="reinforcement.kl.target",
    ),
    Rule(
        f"{_LEARNING} || !has(self.reinforcement.kl.target) || !has(self.rollout)"
        f" || {SAMPLES} < 5 * (has(self.reinforcement.kl.horizon) ? self.reinforcement.kl.horizon : 10000)",
        f"kl.horizon must be more than a fifth of the {{{SAMPLES}}} answers of a rollout, or one rollout"
        " could reduce kl.coefficient to 0; raise it",
        field="reinforcement.kl.horizon",
    ),
    Rule(
        f"{_LEARNING} || !has(self.reinforcement.reference) || {_COEFFICIENT} > 0.0",
        "reference has no effect while kl.coefficient is 0; set that above 0, or remove reference",
        field="reinforcement.reference",
    ),
    forbidden_rule(
        f"{_LEARNING} || !has(self.reinforcement.reference) || !self.reinforcement.reference.precomputed",
        "reference.precomputed is for stage dpo, since a trained model's answers are not known in advance;"
        " remove it",
        field="reinforcement.reference.precomputed",
    ),
    forbidden_rule(
        f"{_ONLY} || !has(self.reward) || !has(self.reward.centering)",
        "reward.centering is a field of stage reward, and stage is {self.stage}; remove it",
        field="reward.centering",
    ),
    *(
        forbidden_rule(
            f"{_ONLY} || {right}",
            f"stage {{self.stage}} {but}; remove it",
            field=field,
        )
        for field, right, but in (
            (
                "data.masking",
                "!has(self.data.masking)",
                "learns from its own answers, and data.masking hides parts of text",
            ),
            (
                "training.loss",
                "self.training.loss.name == 'crossEntropy' && self.training.loss.labelSmoothing == 0.0"
                " && self.training.loss.zLoss == 0.0",
                "uses the loss of reinforcement, and training.loss sets another",
            ),
            (
                "validation",
                "!has(self.validation)",
                "has no loss on held-out prompts for validation",
            ),
        )
    ),
)
