"""The outline reads a few fields of RunConfig by models of its own; here they are held against the whole."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.outline import RunOutline


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model in `X`, `X | None` or `list[X] | None`."""
    found = [annotation] if isinstance(annotation, type) else []
    for part in getattr(annotation, "__args__", ()):
        found += [model_in(part)]
    return next((kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def pairs(outline: type[BaseModel], whole: type[BaseModel], path: str = "") -> list[Any]:
    """Each field of `outline` and of the models in it, beside the one of the same name in `whole`."""
    rows = []
    for name, field in outline.model_fields.items():
        other = whole.model_fields.get(name)
        rows.append(pytest.param(field, other, id=f"{path}{name}"))
        inner, counterpart = model_in(field.annotation), other and model_in(other.annotation)
        if inner is not None and counterpart is not None and inner is not counterpart:
            rows += pairs(inner, counterpart, f"{path}{name}.")
    return rows


@pytest.mark.parametrize(("field", "whole"), pairs(RunOutline, RunConfig))
def test_a_field_of_the_outline_is_one_of_the_runconfig_with_the_same_default(field: Any, whole: Any) -> None:
    assert whole is not None, "RunConfig has no such field"
    if model_in(field.annotation) is None and not (field.is_required() or whole.is_required()):
        assert field.get_default(call_default_factory=True) == whole.get_default(call_default_factory=True)
