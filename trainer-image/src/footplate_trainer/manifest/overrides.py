"""`--set training.steps=10`: a field of the file, changed for one run.

The path is checked against the contract before anything is changed: a misspelt override that silently became
a new field would train the wrong model.
"""

from __future__ import annotations

import copy
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec


def override(
    spec: dict[str, Any], assignments: Sequence[str], parse: Callable[[str], object]
) -> dict[str, Any]:
    """Return a copy of `spec` (plain JSON) with each "path=value" applied; `parse` reads the value.

    null removes a field. Raises ValueError for a path that the contract does not have.
    """
    changed = copy.deepcopy(spec)
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        if not separator or not text.strip():
            raise ValueError(f"--set {assignment}: pass path=value, such as training.steps=10")
        _check_path(path)
        try:
            value = parse(text)
        except ValueError as error:
            raise ValueError(f"--set {assignment}: the value is not valid YAML: {error}") from None
        _assign(changed, path.split("."), value, assignment)
    return changed


def suggestion(name: str, names: Iterable[str]) -> str:
    """Return '; did you mean x?' for an unknown name, else the valid names; "" if there are none."""
    known = {candidate.lower(): candidate for candidate in names}
    sought = name.replace("_", "").lower()
    close = [sought] if sought in known else difflib.get_close_matches(sought, known, n=2, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(known[match] for match in close)}?"
    return f"; its fields are {', '.join(sorted(known.values()))}" if known else ""


def field_names(model: type[BaseModel]) -> dict[str, object]:
    """Return camelCase name -> annotation of each field."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def nested_model(annotation: object) -> type[BaseModel] | None:
    """Return the model in `Model`, `Model | None`, `Annotated[Model, …]` or `list[Model]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated, list):
        found = (nested_model(argument) for argument in typing.get_args(annotation))
        return next((model for model in found if model is not None), None)
    return None


def _check_path(path: str) -> None:
    model: type[BaseModel] | None = TrainingRunSpec
    annotation: object = TrainingRunSpec
    seen: list[str] = []
    for name in path.split("."):
        if model is None or _holds(annotation, list):
            if _holds(annotation, dict):
                return  # a map of the user's own keys
            kind = "a list" if _holds(annotation, list) else "a plain value"
            raise ValueError(f"--set {path}: {'.'.join(seen)} is {kind}; set it as a whole")
        names = field_names(model)
        if name not in names:
            place = f"spec.{'.'.join(seen)}" if seen else "spec"
            hint = "; paths are relative to spec" if not seen and name == "spec" else suggestion(name, names)
            raise ValueError(f"--set {path}: {place} has no field {name}{hint}")
        seen.append(name)
        annotation = names[name]
        model = nested_model(annotation)


def _holds(annotation: object, container: type) -> bool:
    if typing.get_origin(annotation) is container:
        return True
    return typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated) and any(
        _holds(argument, container) for argument in typing.get_args(annotation)
    )


def _assign(spec: dict[str, Any], names: list[str], value: object, assignment: str) -> None:
    here = spec
    for name in names[:-1]:
        child = here.get(name)
        if child is None:
            child = here[name] = {}
        if not isinstance(child, dict):
            raise ValueError(f"--set {assignment}: the file has {child!r} at {name}, not a mapping")
        here = child
    if value is None:
        here.pop(names[-1], None)
    else:
        here[names[-1]] = value
