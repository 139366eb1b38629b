"""Base of the API's schemas: camelCase, NaN and infinities as strings."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

LARGEST: Final = 2**63 - 1  # what a column for whole numbers holds

Namespace = Annotated[str, Field(max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
RunName = Annotated[str, Field(max_length=253, pattern="^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
Uid = Annotated[
    str, Field(max_length=64, pattern="^[-0-9A-Za-z]+$", description="uid of one of the runs with this name")
]
FormerNamespaces = Annotated[bool, Field(description="also runs of deleted namespaces with this name")]
Step = Annotated[int, Field(ge=0, le=LARGEST)]
StepCursor = Annotated[
    str,
    Field(pattern="^(0|[1-9][0-9]{0,17})$", description="nextCursor of the previous page"),
]
"""Number of the step or attempt at which a page ends, or a page of a history begins."""


Number = Annotated[
    float, WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]})
]


class Schema(BaseModel):
    """Base of request and response bodies. JSON has no NaN: it is written "NaN", as in telemetry."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, ser_json_inf_nan="strings"
    )


class QueryParameters(Schema):
    """Query parameters, by their names in OpenAPI and no others.

    A second name for a parameter would bypass the checks that read the first (identity.rights).
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


class PageQuery(QueryParameters):
    """Query of a list in pages, newest number first."""

    cursor: StepCursor | None = None

    @property
    def before(self) -> int | None:
        """The number above this page; None on the first page."""
        return None if self.cursor is None else int(self.cursor)


class NoQueryParameters(QueryParameters):
    """Empty query: a misspelt filter is refused, instead of a response that is not filtered."""


_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]", re.ASCII)


def _written_out(value: object) -> object:
    if isinstance(value, str) and not _TIME.match(value):
        raise ValueError("must be a time such as 2026-11-28T10:00:00Z")
    return value


def _utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time between the years 1 and 9999 in UTC") from None


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_utc)]
