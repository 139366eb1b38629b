"""The fields that docs/objectives.md says choose among conventions are fields of the spec."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from tools.crds import all_definitions

PAGE: Final = (Path(__file__).parents[3] / "docs" / "objectives.md").read_text()


def _fields() -> list[str]:
    """Those of the last column of the table of differences."""
    table = PAGE.split("\n| what, and ours by default |")[1].split("\n\n")[0].splitlines()[2:]
    return [name for row in table for name in re.findall(r"`([\w.]+)`", row.split("|")[-2])]


def _spec() -> dict[str, Any]:
    [run] = [found for found in all_definitions().values() if found["spec"]["names"]["kind"] == "TrainingRun"]
    [version] = run["spec"]["versions"]
    spec: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec


def test_the_table_names_fields_of_every_section_of_post_training() -> None:
    sections = {field.split(".")[0] for field in _fields()}
    assert sections == {"data", "preference", "reinforcement", "reward", "rollout", "training"}


@pytest.mark.parametrize("field", _fields())
def test_a_field_that_chooses_is_one(field: str) -> None:
    place = _spec()
    for name in field.split("."):
        place = place["properties"][name]
    assert place
