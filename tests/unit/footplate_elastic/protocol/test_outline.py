"""The outline reads a few fields of RunConfig by models of its own; here they are held against the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from footplate_contracts.directives import Limits, limit_values, spec_fields
from footplate_contracts.names import Backend
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_elastic.protocol.outline import RunOutline, read_outline
from tests.support.contracts import extended
from tests.support.tiny import tiny_config


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


ROWS = [row for row in pairs(RunOutline, RunConfig) if row.id != "limits"]  # they are gathered, see below


@pytest.mark.parametrize(("field", "whole"), ROWS)
def test_a_field_of_the_outline_is_one_of_the_runconfig_with_the_same_default(field: Any, whole: Any) -> None:
    assert whole is not None, "RunConfig has no such field"
    if model_in(field.annotation) is None and not (field.is_required() or whole.is_required()):
        assert field.get_default(call_default_factory=True) == whole.get_default(call_default_factory=True)


@pytest.mark.parametrize("name", spec_fields())
def test_a_limit_is_what_the_runconfig_says(name: str) -> None:
    config = tiny_config(Path("/shards"), Path("/run"), ["training.steps=9", f"{spec_fields()[name].path}=7"])
    limits = RunOutline.model_validate(config.to_json()).limits
    assert limits == Limits(steps=9, **limit_values(config)) and getattr(limits, name) == 7


def test_a_length_in_tokens_is_for_the_ranks_to_tell() -> None:
    document = tiny_config(Path("/shards"), Path("/run")).to_json()
    document["training"].pop("steps")
    assert RunOutline.model_validate(document).limits is None


@pytest.mark.parametrize("text", ["[]", '{"training": []}', '{"training": {"steps": "many"}}'])
def test_a_document_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path}: "):
        read_outline(path)


def test_what_a_newer_release_says_of_any_part_is_passed_over(tmp_path: Path) -> None:
    config = tiny_config(Path("/shards"), Path("/run"))
    document = config.model_copy(update={"hang": Hang(factor=2.0, rollout_seconds=60)}).to_json()
    path = tmp_path / "run.json"
    path.write_text(json.dumps(extended(RunConfig, document)))
    assert read_outline(path) == RunOutline.model_validate(document)
    assert read_outline(path).hang == Hang(factor=2.0, rollout_seconds=60)


@pytest.mark.parametrize(
    ("told", "backend"),
    [
        pytest.param({"backend": "nccl"}, Backend.NCCL, id="devices"),
        pytest.param({"backend": "gloo"}, Backend.GLOO, id="none"),
        pytest.param({}, Backend.GLOO, id="not said"),
        pytest.param({"backend": "sunSpots"}, Backend.GLOO, id="of a later release"),
    ],
)
def test_which_backend_ranks_have(told: dict[str, str], backend: Backend) -> None:
    assert RunOutline.model_validate({"run": {"name": "tiny"}, "world": told}).world.backend is backend
