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
    """Distribution of the next token; values that are not stated leave the model's."""

    temperature: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0, description="what logits are divided by; 0: the likeliest token"
    )
    top_k: Annotated[int, Field(ge=1, le=16_777_216)] | None = Field(
        None, description="so many of the likeliest tokens"
    )
    top_p: Probability | None = Field(
        None, description="the fewest of the likeliest tokens with so much probability together"
    )
    min_p: Probability | None = Field(
        None, description="tokens with at least this share of the likeliest one's probability"
    )
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100.0)] | None = Field(
        None, description="what positive logits of tokens are divided by that stand there already"
    )

    rules: ClassVar = (
        Rule("!has(self.topP) || self.topP > 0.0", "topP must be above 0, not {self.topP}", field="topP"),
    )


class RolloutOutput(ApiModel):
    """Output of stage generate."""

    uri: Uri = Field(description="a folder for shards, as footplate-trainer pack writes them")
    best: Count | None = Field(
        None, description="so many of a prompt's answers stay, by their reward; default: all"
    )

    rules: ClassVar = (hostless_file_rule("uri"),)


class Rollout(ApiModel):
    """Answers to prompts; all answers of a rollout are generated with the same weights."""

    generation_batch_size: Count | None = Field(
        None,
        description="answers of one rollout; default: training.globalBatchSize, the least of grpo and ppo",
    )
    num_generations: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        None, description="answers to each prompt of a rollout; default: 8 with grpo, otherwise 1"
    )
    max_tokens: Count = Field(description="of an answer, its end among them")
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] = Field(
        [], description="texts that end an answer, beside the model's own ends of text"
    )
    sampling: Sampling = Sampling()
    parallelism: RolloutParallelism = RolloutParallelism()
    batch_invariant: bool = Field(
        False,
        description="log-probabilities are bitwise the same in any batch, and those that training recomputes",
    )
    cache_tokens: Count | None = Field(
        None,
        description="tokens whose keys and values a rank holds; default: what answers in flight need, within"
        " the device's memory",
    )
    output: RolloutOutput | None = Field(None, description="of stage generate")

    rules: ClassVar = (
        Rule(
            "!has(self.generationBatchSize) || !has(self.numGenerations) || self.generationBatchSize %"
            " self.numGenerations == 0",
            "generationBatchSize {self.generationBatchSize} is not a multiple of numGenerations"
            " {self.numGenerations}; each prompt of a rollout has all answers of its group",
            field="generationBatchSize",
        ),
    )
