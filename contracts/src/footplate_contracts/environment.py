"""Settings from environment variables, with errors that name the variable.

Programs read their settings with pydantic-settings, each into one class: a field `x` is the variable
FOOTPLATE_X, or the variable that its alias names, and the field's description says what is right for it.
"""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

PREFIX: Final = "FOOTPLATE_"
Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(settings: type[Settings]) -> Settings:
    """Read the settings of this process; raises ValueError that names the variable."""
    try:
        return settings()
    except ValidationError as error:
        raise ValueError(_mistake(settings, error)) from None


def _mistake(settings: type[BaseModel], error: ValidationError) -> str:
    """Return the first error: the variable, its value and the right ones; or our own validator's message."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    place = str(first["loc"][0])
    name = next(
        name for name, field in settings.model_fields.items() if place in (name, field.validation_alias)
    )
    variable = place if place != name else f"{PREFIX}{name.upper()}"
    given = "not set" if first["type"] == "missing" else repr(first["input"])
    return f"{variable} is {given}; must be {settings.model_fields[name].description}"
