"""Reads a TrainingRun file as the cluster would read it.

The same file is used by `kubectl apply` and by `footplate-trainer train`; it has to mean the same in both,
and be refused for the same reasons in nearly the same words. So: YAML 1.2 numbers (6e-4 is one), strict
types, no unknown field, the defaults and the CEL rules of the CRD.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from footplate_contracts.lineage import run_references
from footplate_contracts.names import API_VERSION
from footplate_contracts.runconfig import RunConfig, RunIdentity, World, resolve
from footplate_contracts.v1alpha1.trainingrun import TrainingRun, TrainingRunSpec
from footplate_trainer.errors import UserMistake
from footplate_trainer.manifest.cel import broken_rules, violations
from footplate_trainer.manifest.overrides import field_names, nested_model, override, suggestion

_BOUNDS = {
    "greater_than_equal": ("ge", "greater than or equal to"),
    "less_than_equal": ("le", "less than or equal to"),
}
_LENGTHS = {
    "string_too_long": "Too long: may not be more than {max_length} bytes",
    "string_too_short": "Invalid value: {shown}: {path} in body should be at least {min_length} chars long",
    "too_long": "Too many: {actual_length}: must have at most {max_length} items",
    "too_short": "Invalid value: {actual_length}: {path} in body should have at least {min_length} items",
}
_TYPES = {
    "int": "integer",
    "float": "number",
    "string": "string",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
    "model": "object",
}


KIND = "TrainingRun"
_TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")


class InvalidManifest(UserMistake):
    """The file is no valid TrainingRun; `problems` are lines of "field: what is wrong"."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(dict.fromkeys(problems))  # two rules may find the same
        super().__init__("\n".join(f"{path}: {problem}" for problem in self.problems))


@dataclass(frozen=True)
class RunFile:
    """A valid TrainingRun."""

    identity: RunIdentity
    spec: TrainingRunSpec

    def config(self, world: World) -> RunConfig:
        """Return the configuration that a rank reads, for a gang of `world`."""
        return resolve(self.spec, self.identity, world)


def read_run(path: Path, overrides: Sequence[str] = ()) -> RunFile:
    """Read the one TrainingRun in a YAML or JSON file, with "path=value" overrides of its spec.

    Raises InvalidManifest, which is a ValueError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise InvalidManifest(path, [f"cannot be read: {reason}"]) from None
    try:
        document = _the_run(parse_documents(text))
        problems = _envelope_problems(document)
        if not problems:
            document = {**document, "spec": override(document["spec"], overrides, parse_value)}
    except ValueError as error:
        raise InvalidManifest(path, [str(error)]) from None
    if problems:
        raise InvalidManifest(path, problems)
    return _validated(path, document)


def parse_documents(text: str) -> list[object]:
    """Parse the documents of YAML 1.2 (or one of JSON) to plain values; ValueError names the line."""
    try:
        return [_as_go_writes(document) for document in _yaml().load_all(text)]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem or error.context}") from None
    except YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("a value is nested too deeply, or contains itself") from None


def parse_value(text: str) -> object:
    """Parse one YAML scalar or flow collection."""
    documents = parse_documents(text)
    if len(documents) != 1:
        raise ValueError(f"{len(documents)} documents")
    return documents[0]


class _CoreConstructor(SafeConstructor):
    """A constructor without dates, as in YAML's core schema: 2026-01-01 is text."""


_CoreConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _CoreConstructor
    return yaml


def _as_go_writes(value: object) -> object:
    """Return `value` as Go writes it in JSON: 1e3 and 5.0 are integers, so they may fill an integer field.

    ValueError for values of YAML that JSON does not have, such as sets.
    """
    if isinstance(value, dict):
        strange = next((key for key in value if not isinstance(key, str | int | float | None)), None)
        if strange is not None:
            raise ValueError(f"{strange!r} is not a key of a JSON object; use text")
        return {key: _as_go_writes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_go_writes(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"{value!r} is a {type(value).__name__}, which JSON does not support")
    return value


def _the_run(documents: Sequence[object]) -> dict[str, Any]:
    found = [item for item in documents if isinstance(item, dict) and item.get("kind") == KIND]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{len(found)} documents are of kind {KIND}; pass a file with one")
    kinds = [str(item["kind"]) for item in documents if isinstance(item, dict) and "kind" in item]
    raise ValueError(f"no document is of kind {KIND}" + (f", only {', '.join(kinds)}" if kinds else ""))


def _envelope_problems(document: dict[str, Any]) -> list[str]:
    """Return the errors outside spec."""
    problems = [
        f"{name}: unknown field{suggestion(str(name), _TOP_LEVEL)}"
        for name in document
        if name not in _TOP_LEVEL
    ]
    if document.get("apiVersion") != API_VERSION:
        given = json.dumps(document.get("apiVersion"), default=str)
        problems.append(f'apiVersion: Invalid value: {given}: must be "{API_VERSION}"')
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        problems.append("metadata.name: Required value: a string")
    elif not isinstance(metadata.get("namespace", ""), str):
        problems.append(f"metadata.namespace: Invalid value: {metadata['namespace']!r}: must be a string")
    if not isinstance(document.get("spec"), dict):
        problems.append("spec: Required value: a mapping")
    return problems


def _validated(path: Path, document: dict[str, Any]) -> RunFile:
    metadata = document["metadata"]
    try:
        # Strict and from JSON, as the API server sees it: "5" is no number, 5 is a float's value too.
        run = TrainingRun.model_validate_json(
            json.dumps({"spec": document["spec"]}), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        raise InvalidManifest(path, validation_lines(error, TrainingRun)) from None
    root = {"metadata": {"name": metadata["name"]}, "spec": run.spec.to_json()}
    broken = [*broken_rules(TrainingRun.rules, root, ""), *violations(run.spec, "spec")]
    if broken:
        raise InvalidManifest(path, [str(violation) for violation in broken])
    if named := run_references(run.spec):
        raise InvalidManifest(path, [_without_cluster(field, named[field].name) for field in named])
    identity = RunIdentity(name=metadata["name"], namespace=metadata.get("namespace") or "default")
    return RunFile(identity, run.spec)


def _without_cluster(field: str, name: str) -> str:
    return (
        f"spec.{field}.run: Forbidden: run {name} is known only to a cluster's operator; set {field}.uri to "
        "the folder instead"
    )


def validation_lines(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """Return one line for each error: the field's path, the value, and what would be right."""
    return [_refusal(details, root) for details in error.errors()]


def _refusal(details: ErrorDetails, root: type[BaseModel]) -> str:
    location, kind, given = details["loc"], details["type"], details["input"]
    context: dict[str, Any] = details.get("ctx", {})
    path, shown = _dotted(location), json.dumps(given, default=str)
    if kind == "extra_forbidden":
        model = _model_at(root, location[:-1])
        return f"{path}: unknown field{suggestion(str(location[-1]), field_names(model) if model else ())}"
    if kind == "missing":
        return f"{path}: Required value"
    if kind == "enum":
        # pydantic writes 'a', 'b' or 'c'
        allowed = context["expected"].replace("'", '"').replace(" or ", ", ")
        return f"{path}: Unsupported value: {shown}: supported values: {allowed}"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{path}: Invalid value: {shown}: {path} in body should be {words} {context[key]:g}"
    if kind in _LENGTHS:
        return f"{path}: {_LENGTHS[kind].format(path=path, shown=shown, **context)}"
    wanted = _TYPES.get(kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float"))
    if wanted is not None:
        return (
            f'{path}: Invalid value: {shown}: {path} in body must be of type {wanted}: "{_json_type(given)}"'
        )
    return f"{path}: Invalid value: {shown}: {details['msg']}"


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _dotted(location: Sequence[int | str]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _model_at(root: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    for part in location:
        if model is not None and isinstance(part, str):
            model = nested_model(field_names(model).get(part))
    return model
