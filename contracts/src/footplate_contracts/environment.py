"""What programs are told by their environment; what is wrong with it, in the words of whoever set it.

Programs read theirs with pydantic-settings, each into one class: a field `x` is the variable FOOTPLATE_X,
or the one that its alias names, and the field's description says what is right for it.
"""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

PREFIX: Final = "FOOTPLATE_"
Settings = TypeVar("Settings", bound=BaseModel)


def read(settings: type[Settings]) -> Settings:
    """The settings of this process; raises ValueError that names the variable."""
    try:
        return settings()
    except ValidationError as error:
        raise ValueError(_mistake(settings, error)) from None


def _mistake(settings: type[BaseModel], error: ValidationError) -> str:
    """The first mistake: the variable, its value, and what is right; or what a validator of ours says."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    place = str(first["loc"][0])
    name = next(
        name for name, field in settings.model_fields.items() if place in (name, field.validation_alias)
    )
    variable = place if place != name else f"{PREFIX}{name.upper()}"
    given = "not set" if first["type"] == "missing" else repr(first["input"])
    return f"{variable} is {given}; {settings.model_fields[name].description} is right"
