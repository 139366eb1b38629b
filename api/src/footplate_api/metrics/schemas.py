"""Metric histories as callers ask for and see them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from footplate_api.schemas import LARGEST, Number, Schema, Step, Uid

DEFAULT_ROWS = 5000
MOST_ROWS = 50_000


class MetricName(StrEnum):
    """The columns of a history beside `step`."""

    TIME = "time"
    LOSS = "loss"
    GRADIENT_NORM = "gradientNorm"
    LEARNING_RATE = "learningRate"
    TOKENS = "tokens"
    TOKENS_PER_SECOND = "tokensPerSecond"
    SAMPLE_DIGEST = "sampleDigest"
    GENERATION = "generation"
    STEP_SECONDS = "stepSeconds"
    DATA_SECONDS = "dataSeconds"
    COMPUTE_SECONDS = "computeSeconds"
    COMMUNICATION_SECONDS = "communicationSeconds"
    OPTIMIZER_SECONDS = "optimizerSeconds"
    CHECKPOINT_SECONDS = "checkpointSeconds"
    VALIDATION_SECONDS = "validationSeconds"
    MFU = "mfu"
    MFU_CAUSAL = "mfuCausal"
    MEMORY_BYTES = "memoryBytes"
    VALIDATION_LOSS = "validationLoss"


class MetricQuery(Schema):
    """Which part of a history, how dense, which columns."""

    model_config = ConfigDict(extra="forbid")

    uid: Uid | None = None
    from_step: Step = Field(0, alias="from", description="first step")
    to_step: Step | None = Field(None, alias="to", description="last step, inclusive")
    every: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="only multiples of it and the last; default: what fits into `limit`",
    )
    names: list[MetricName] = Field(
        list(MetricName), description="columns, separated by commas; default: all", examples=["loss,time"]
    )
    limit: int = Field(DEFAULT_ROWS, ge=10, le=MOST_ROWS, description="most rows of one answer")

    @field_validator("names", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        """`names=loss,time` as well as `names=loss&names=time`."""
        parts = [value] if isinstance(value, str) else value
        return [name for part in parts for name in str(part).split(",")]

    @model_validator(mode="after")
    def forwards(self) -> MetricQuery:
        """`to` lies behind `from`."""
        if self.to_step is not None and self.to_step < self.from_step:
            raise ValueError(f"to={self.to_step} must be at least from={self.from_step}")
        return self


Measured = list[Number | None]


class MetricHistory(Schema):
    """Columns of equal length, in order of steps; a column not asked for is absent.

    From `stepSeconds` on, null stands for what a step did not measure, and a column
    that no step has measured is absent too.

    NaN and infinities are the strings "NaN", "Infinity", "-Infinity".
    """

    run_uid: str
    every: int = Field(description="the stride that was used")
    next_step: int | None = Field(None, description="`from` of the rest; absent at the end")
    step: list[int]
    time: list[Number] | None = Field(None, description="seconds since the Unix epoch")
    loss: list[Number] | None = Field(None, description="global token mean before the update")
    gradient_norm: list[Number] | None = Field(None, description="before clipping")
    learning_rate: list[Number] | None = None
    tokens: list[int] | None = Field(None, description="valid tokens since step 0")
    tokens_per_second: list[Number] | None = None
    sample_digest: list[str] | None = None
    generation: list[str] | None = Field(None, description="<epoch>.<number> that computed the row")
    step_seconds: Measured | None = Field(None, description="since the row before; the parts follow")
    data_seconds: Measured | None = Field(None, description="waiting for data")
    compute_seconds: Measured | None = Field(None, description="forward and backward")
    communication_seconds: Measured | None = Field(None, description="waiting for all ranks at the end")
    optimizer_seconds: Measured | None = Field(None, description="clipping and update")
    checkpoint_seconds: Measured | None = Field(None, description="blocked by a checkpoint")
    validation_seconds: Measured | None = Field(None, description="computing the validation loss")
    mfu: Measured | None = Field(None, description="model FLOPs utilisation, full attention")
    mfu_causal: Measured | None = Field(None, description="model FLOPs utilisation, causal half")
    memory_bytes: list[int | None] | None = Field(None, description="peak of rank 0")
    validation_loss: Measured | None = Field(None, description="token mean over held-out batches")
