"""The base of what the API answers: camelCase, NaN and infinities as strings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Schema(BaseModel):
    """An answer. JSON has no NaN, so one is written "NaN", as telemetry does."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, ser_json_inf_nan="strings"
    )
