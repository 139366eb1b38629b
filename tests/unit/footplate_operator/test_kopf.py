"""What the operator takes of kopf is in the oldest kopf that its pin allows (ADR-0058)."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Final

import kopf
import pytest
from packaging.requirements import Requirement

from footplate_operator.runtime import handlers

OPERATOR: Final = Path(handlers.__file__).parents[1]
ROOT: Final = Path(__file__).resolve().parents[3]
FLOOR: Final = "1.45"  # the first with selectors of a watch
USED: Final = {
    "AiohttpSession",
    "OperatorRegistry",
    "OperatorSettings",
    "on",
    "operator",  # in a docstring
    "run_tasks",
    "spawn_tasks",
}


def test_the_pin_has_this_floor_and_the_tested_kopf_satisfies_it() -> None:
    project = tomllib.loads((ROOT / "operator" / "pyproject.toml").read_text())["project"]
    [pin] = [asked for asked in map(Requirement, project["dependencies"]) if asked.name == "kopf"]
    assert str(pin.specifier) == f"~={FLOOR}"
    [line] = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("kopf==")
    ]
    assert pin.specifier.contains(line.removeprefix("kopf==")) and pin.specifier.contains(version("kopf"))
    assert not pin.specifier.contains("1.44.6"), "which has no selectors"


def test_nothing_else_of_kopf_is_used() -> None:
    text = "\n".join(path.read_text() for path in OPERATOR.rglob("*.py"))
    used = set(re.findall(r"\bkopf\.([A-Za-z_]+)", text))
    assert used == USED and all(hasattr(kopf, name) for name in used)
    assert set(re.findall(r"\bkopf\.on\.([a-z]+)", text)) == {"event", "login"}


@pytest.mark.parametrize("section", sorted(vars(kopf.OperatorSettings())))
def test_kopf_has_every_setting_that_is_set(section: str) -> None:
    """A misspelled or later setting would be a new attribute that nobody reads."""
    ours, usual = handlers.settings([]), kopf.OperatorSettings()
    assert vars(getattr(ours, section)).keys() == vars(getattr(usual, section)).keys()
    assert hasattr(usual.watching, "label_selectors")
