"""Runs that a spec names, and the folders that stand for them in a RunConfig."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.lineage import run_references, with_resolved_uris
from footplate_contracts.runconfig import RunIdentity, World, resolve
from footplate_contracts.v1alpha1.references import LineageEntry, ReferenceField
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from tests.support.operator_fakes import run_manifest

BASE = {"run": {"name": "base", "checkpoint": "best"}}
EACH: dict[ReferenceField, dict[str, Any]] = {
    ReferenceField.INIT_FROM: {"initFrom": BASE},
    ReferenceField.PREFERENCE: {"preference": {"reference": BASE}},
    ReferenceField.REWARD: {"reward": BASE},
    ReferenceField.REINFORCEMENT: {"reinforcement": {"reference": BASE}},
    ReferenceField.VALUE: {"reinforcement": {"value": BASE}},
    ReferenceField.DATA: {"data": {"run": {"name": "base"}}},
}


def spec(**changes: Any) -> TrainingRunSpec:
    return TrainingRunSpec.from_json(run_manifest(**changes)["spec"])


def entry(field: ReferenceField) -> LineageEntry:
    return LineageEntry(field=field, run="base", uid="u", step=7, uri="/base/step-7.e1g1", digest="a" * 64)


@pytest.mark.parametrize("field", ReferenceField)
def test_a_folder_stands_in_the_place_of_each_run(field: ReferenceField) -> None:
    named = spec(**EACH[field])
    assert [(where, run.name) for where, run in run_references(named).items()] == [(field, "base")]

    resolved = with_resolved_uris(named, [entry(field)])
    part: Any = resolved.to_json()
    for name in field.split("."):
        part = part[name]
    assert (part["uri"], "run" in part) == ("/base/step-7.e1g1", False)
    assert run_references(resolved) == {}


def test_a_config_keeps_where_its_folders_come_from() -> None:
    config = resolve(
        spec(initFrom=BASE), RunIdentity(name="next"), World(), [entry(ReferenceField.INIT_FROM)]
    )
    assert config.init_from is not None and config.init_from.place == "/base/step-7.e1g1"
    assert config.lineage == [entry(ReferenceField.INIT_FROM)]


def test_a_run_that_names_none_has_no_lineage() -> None:
    assert "lineage" not in resolve(spec(), RunIdentity(name="alone"), World()).to_json()


def test_a_run_that_is_not_resolved_is_no_config() -> None:
    with pytest.raises(ValueError, match=r"^initFrom\.run base is not resolved to a folder$"):
        resolve(spec(initFrom=BASE), RunIdentity(name="next"), World())
