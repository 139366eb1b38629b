"""Metric histories as callers ask for and see them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import ConfigDict, Field, create_model, field_validator, model_validator

from footplate_api.schemas import LARGEST, FormerNamespaces, Number, Schema, Step, Uid
from footplate_contracts.metrics import COLUMNS, Column, Scalar

DEFAULT_ROWS = 5000
MOST_ROWS = 50_000


GENERATION: Final = Column(
    "generation", "generation", str, optional=False, description="<epoch>.<number> that computed the row"
)
SHOWN: Final = (
    *(column for column in COLUMNS if not column.optional and column.name != "step"),
    GENERATION,
    *(column for column in COLUMNS if column.optional),
)


class MetricName(StrEnum):
    """The columns of a history beside `step`."""

    _ignore_ = ["members", "column"]
    members = vars()
    for column in SHOWN:
        members[column.name] = column.alias


class MetricQuery(Schema):
    """Which part of a history, how dense, which columns."""

    model_config = ConfigDict(extra="forbid")

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
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


class HistoryPart(Schema):
    """Columns of equal length, in order of steps; a column not asked for is absent.

    From `stepSeconds` on, null stands for what a step did not measure, and a column
    that no step has measured is absent too.

    NaN and infinities are the strings "NaN", "Infinity", "-Infinity".
    """

    run_uid: str
    every: int = Field(description="the stride that was used")
    next_step: int | None = Field(None, description="`from` of the rest; absent at the end")
    step: list[int]


_LISTS: Final[dict[tuple[Scalar, bool], Any]] = {
    (float, False): list[Number] | None,
    (float, True): list[Number | None] | None,
    (int, False): list[int] | None,
    (int, True): list[int | None] | None,
    (str, False): list[str] | None,
    (str, True): list[str | None] | None,
}
_FIELDS: Final[dict[str, Any]] = {
    column.name: (_LISTS[column.type, column.optional], Field(None, description=column.description))
    for column in SHOWN
}
MetricHistory: Final = create_model(
    "MetricHistory", __base__=HistoryPart, __doc__=HistoryPart.__doc__, **_FIELDS
)
