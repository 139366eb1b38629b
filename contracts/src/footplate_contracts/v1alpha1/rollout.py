"""`spec.rollout`: generation of answers, by the ranks that train."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.types import ApiModel, Count, Probability, Uri, hostless_file_rule

# Of a spec that has the section: how many answers a rollout has.
SAMPLES: Final = (
    "(has(self.rollout.generationBatchSize) ? self.rollout.generationBatchSize"
    " : self.training.globalBatchSize)"
)
_Degree = Annotated[int, Field(ge=1, le=1024)]


class RolloutParallelism(ApiModel):
    """Degrees while answers are generated; data parallelism has the remaining ranks."""

    tensor: _Degree = Field(1, description="ranks that share each matrix")
    pipeline: _Degree = Field(1, description="ranks that share the layers")


class Sampling(ApiModel):
    """Distribution of the next token; fields that are not set keep the model's."""

    temperature: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0, description="divisor of the logits; 0: always the likeliest token"
    )
    top_k: Annotated[int, Field(ge=1, le=16_777_216)] | None = Field(
        None, description="number of likeliest tokens to sample from"
    )
    top_p: Probability | None = Field(
        None, description="probability mass of the likeliest tokens to sample from"
    )
    min_p: Probability | None = Field(
        None, description="smallest probability to sample, relative to the likeliest token's"
    )
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100.0)] | None = Field(
        None, description="divisor of the positive logits of tokens that already occurred"
    )

    rules: ClassVar = (
        Rule("!has(self.topP) || self.topP > 0.0", "topP must be above 0, not {self.topP}", field="topP"),
    )


class RolloutOutput(ApiModel):
    """Output of stage generate."""

    uri: Uri = Field(description="folder for shards, as footplate-trainer pack writes them")
    best: Count | None = Field(
        None, description="number of answers per prompt to keep, by reward; default: all"
    )

    rules: ClassVar = (hostless_file_rule("uri"),)


class Rollout(ApiModel):
    """Answers to prompts; all answers of a rollout are generated with the same weights."""

    generation_batch_size: Count | None = Field(
        None,
        description="answers per rollout; default, and minimum of grpo and ppo: training.globalBatchSize",
    )
    num_generations: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="answers per prompt in a rollout; default: 8 with grpo, otherwise 1"
    )
    max_tokens: Count = Field(description="largest number of tokens of an answer, including its end")
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] = Field(
        [], description="texts that end an answer, besides the model's own end tokens"
    )
    sampling: Sampling = Sampling()
    parallelism: RolloutParallelism = RolloutParallelism()
    batch_invariant: bool = Field(
        False,
        description="log-probabilities are bitwise identical in any batch and when training recomputes them",
    )
    cache_tokens: Count | None = Field(
        None,
        description="tokens whose keys and values a rank caches; default: enough for the answers in flight,"
        " within device memory",
    )
    output: RolloutOutput | None = Field(None, description="output of stage generate")

    rules: ClassVar = (
        Rule(
            "!has(self.generationBatchSize) || !has(self.numGenerations) || self.generationBatchSize %"
            " self.numGenerations == 0",
            "generationBatchSize {self.generationBatchSize} is not a multiple of numGenerations"
            " {self.numGenerations}; each prompt of a rollout gets numGenerations answers",
            field="generationBatchSize",
        ),
    )
