"""Request and response schemas of metric histories."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema, create_model, field_validator, model_validator

from footplate_api.serialization.schemas import (
    LARGEST,
    FormerNamespaces,
    Number,
    QueryParameters,
    Schema,
    Step,
    StepCursor,
    Uid,
)
from footplate_contracts.metrics import COLUMNS, VALUE_NAME, MetricColumn, Scalar

DEFAULT_ROWS = 5000
MOST_ROWS = 50_000
MOST_CELLS = 1_500_000  # numbers of one answer, and nulls among them: all that is no further number fits


GENERATION: Final = MetricColumn(
    "generation", "generation", str, optional=False, description="<epoch>.<number> that computed the row"
)
SHOWN: Final = (
    *(column for column in COLUMNS if not column.optional and column.name != "step"),
    GENERATION,
    *(column for column in COLUMNS if column.optional),
)


class MetricName(StrEnum):
    """Columns of a history beside `step`."""

    _ignore_ = ["members", "column"]
    members = vars()
    for column in SHOWN:
        members[column.name] = column.alias


# Any name will do: whether a run has a further number of that name only its rows can tell.
_PATTERN: Final = f"^{VALUE_NAME.pattern}$"
ColumnName = Annotated[
    str,
    Field(pattern=_PATTERN),
    WithJsonSchema({"anyOf": [{"enum": list(MetricName)}, {"type": "string", "pattern": _PATTERN}]}),
]


class MetricQuery(QueryParameters):
    """Query parameters of a history: range, density and columns."""

    uid: Uid | None = None
    former_namespaces: FormerNamespaces = False
    from_step: Step = Field(0, alias="from", description="first step")
    to_step: Step | None = Field(None, alias="to", description="last step, inclusive")
    every: int | None = Field(
        None,
        ge=1,
        le=LARGEST,
        description="stride: only its multiples and the last step; default: what fits into `limit`",
    )
    names: list[ColumnName] | None = Field(
        None,
        description="names of columns and of `values`, separated by commas; default: all",
        examples=["loss,time"],
    )
    limit: int = Field(DEFAULT_ROWS, ge=10, le=MOST_ROWS, description="maximum number of rows in a response")
    cursor: StepCursor | None = None
    superseded: bool = Field(
        False, description="return only the rows that training discarded when it restarted from a checkpoint"
    )

    @field_validator("names", mode="before")
    @classmethod
    def split(cls, value: Any) -> Any:
        """Split `names=loss,time` in the same way as `names=loss&names=time`."""
        parts = [value] if isinstance(value, str) else value
        return [name for part in parts for name in str(part).split(",")]

    @model_validator(mode="after")
    def forwards(self) -> MetricQuery:
        """Require that `to` is not before `from`, and that `superseded` has no `every`."""
        if self.to_step is not None and self.to_step < self.from_step:
            raise ValueError(f"to={self.to_step} must be at least from={self.from_step}")
        if self.superseded and self.every is not None:
            raise ValueError(f"every={self.every} must be absent: superseded rows are not thinned")
        return self

    def page(self) -> MetricQuery:
        """Return the query of this page: its steps begin at the cursor."""
        first = self.from_step if self.cursor is None else int(self.cursor)
        return self.model_copy(update={"from_step": first})

    def includes(self, name: str) -> bool:
        """Return whether the column or further number `name` is to be shown."""
        return self.names is None or name in self.names


class Hole(Schema):
    """Steps that were trained and have no row: it was lost before the API had stored it."""

    from_step: int = Field(alias="from")
    to_step: int = Field(alias="to", description="last step, inclusive")


class HistoryPart(Schema):
    """Columns of equal length, in order of steps; a column that was not requested is absent.

    From `stepSeconds` on, null is a value that a step did not measure, and a column
    that no step has measured is absent too.

    NaN and infinities are the strings "NaN", "Infinity", "-Infinity".
    """

    run_uid: str
    every: int = Field(description="stride of the rows")
    next_cursor: str | None = Field(None, description="cursor of the next page; absent on the last page")
    holes: list[Hole] | None = Field(
        None, description="at most 100 gaps in the requested range, equal on all pages; absent without gaps"
    )
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
    "MetricHistory",
    __base__=HistoryPart,
    __doc__=HistoryPart.__doc__,
    **_FIELDS,
    values=(
        dict[str, list[Number | None]] | None,
        Field(None, description="further numbers by name; null if a step has none of that name"),
    ),
)
