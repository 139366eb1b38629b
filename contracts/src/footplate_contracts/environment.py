"""What is wrong with a variable of the environment, in the words of whoever set it.

Programs read theirs with pydantic-settings, each into one class: a field `x` is the variable FOOTPLATE_X,
or the one that its alias names, and the field's description says what is right for it.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ValidationError

PREFIX: Final = "FOOTPLATE_"


def mistake(settings: type[BaseModel], error: ValidationError) -> str:
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
