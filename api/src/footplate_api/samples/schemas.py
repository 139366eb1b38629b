"""Request and response schemas of samples."""

from __future__ import annotations

from pydantic import Field, model_validator

from footplate_api.serialization.schemas import (
    LARGEST,
    FormerNamespaces,
    Number,
    PageQuery,
    Schema,
    Step,
    Uid,
)
from footplate_contracts.samples import MOST

MOST_STEPS = 50  # of one answer, of up to 48 KB each


class SampleQuery(PageQuery):
    """Filters of a list of samples."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    step: Step | None = Field(None, description="only of this step; default: the newest steps with samples")
    prompt: int | None = Field(
        None, ge=0, le=LARGEST, description="only answers to the prompt with this number"
    )
    limit: int = Field(1, ge=1, le=MOST_STEPS, description="maximum number of steps in a response")

    @model_validator(mode="after")
    def one_way(self) -> SampleQuery:
        """Refuse `cursor` together with `step`, as a single step has no pages."""
        if self.step is not None and self.cursor is not None:
            raise ValueError(f"cursor={self.cursor} must be absent with step={self.step}")
        return self


class SampleItem(Schema):
    """Prompt and answer as text; long ones are cut, with ' […] ' in place of the rest.

    No text has control characters except line ends and tabs. A model wrote it, or read it as a prompt: a
    client that displays it must escape it.
    """

    prompt: int = Field(description="number of the prompt in the run's data, the same in each epoch")
    sibling: int = Field(description="number of the answer among those to the prompt")
    prompt_text: str
    answer_text: str
    tokens: int = Field(description="tokens of the answer, end token included")
    end: str | None = Field(description="end, stop or length; null if the answer was not generated")
    rewards: dict[str, Number] = Field(description="unweighted value of each reward")
    reward: Number | None = Field(description="weighted sum of the rewards; null without rewards")
    advantage: Number | None = Field(description="advantage that the step trained with; null without one")


class StepSamples(Schema):
    """Samples of a step."""

    step: int
    generation: str = Field(description="<epoch>.<number> that trained the step")
    samples: list[SampleItem] = Field(description=f"at most {MOST} samples, in display order")


class SampleList(Schema):
    """Samples of steps, newest step first, of the weights that exist."""

    run_uid: str
    items: list[StepSamples]
    next_cursor: str | None = Field(description="null on the last page")
