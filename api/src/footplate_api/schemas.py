"""The base of what the API answers: camelCase, NaN and infinities as strings."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

LARGEST: Final = 2**63 - 1  # what a column for whole numbers holds

Namespace = Annotated[str, Field(max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
RunName = Annotated[str, Field(max_length=253, pattern="^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
Uid = Annotated[
    str, Field(max_length=64, pattern="^[-0-9A-Za-z]+$", description="a certain run of this name")
]
FormerNamespaces = Annotated[
    bool, Field(description="also runs of earlier namespaces that had this name and were deleted")
]
Step = Annotated[int, Field(ge=0, le=LARGEST)]


Number = Annotated[
    float, WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]})
]


class Schema(BaseModel):
    """An answer. JSON has no NaN, so one is written "NaN", as telemetry does."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, ser_json_inf_nan="strings"
    )


class Asked(Schema):
    """Parameters of a query, by the names that OpenAPI tells and no others.

    A second name for one would be a way around whoever looks at the first (identity.rights).
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


class NothingAsked(Asked):
    """For what takes no parameters: a misspelt filter is refused, and not an answer that is not filtered."""
