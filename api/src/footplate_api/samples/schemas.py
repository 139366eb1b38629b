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
    step: Step | None = Field(None, description="of this step alone; default: the newest that have samples")
    prompt: int | None = Field(
        None, ge=0, le=LARGEST, description="only answers to the prompt of this number"
    )
    limit: int = Field(1, ge=1, le=MOST_STEPS, description="most steps of one answer")

    @model_validator(mode="after")
    def one_way(self) -> SampleQuery:
        """Refuse `cursor` together with `step`, as a single step has no pages."""
        if self.step is not None and self.cursor is not None:
            raise ValueError(f"cursor={self.cursor} must be absent where step={self.step} is given")
        return self


class SampleItem(Schema):
    """Prompt and answer as text; long ones are cut, with ' […] ' in place of the rest.

    No text has control characters except line ends and tabs. A model wrote it, or read it as a prompt: a
    client that displays it must escape it.
    """

    prompt: int = Field(description="its number in the run's data, in each epoch the same")
    sibling: int = Field(description="which of the answers to this prompt")
    prompt_text: str
    answer_text: str
    tokens: int = Field(description="of the answer, its end among them")
    end: str | None = Field(description="end, stop or length; null where nobody drew them")
    rewards: dict[str, Number] = Field(description="what each reward gave, unweighted")
    reward: Number | None = Field(description="their weighted sum; null where there is none")
    advantage: Number | None = Field(description="as the step learnt from it; null where there is none")


class StepSamples(Schema):
    """Samples of a step."""

    step: int
    generation: str = Field(description="<epoch>.<number> that trained it")
    samples: list[SampleItem] = Field(description=f"at most {MOST}, in the order in which they are shown")


class SampleList(Schema):
    """Samples of steps, newest step first, of the weights that exist."""

    run_uid: str
    items: list[StepSamples]
    next_cursor: str | None = Field(description="null on the last page")
