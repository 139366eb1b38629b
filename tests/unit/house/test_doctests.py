"""The examples in the product's docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = sorted(
    str(path.relative_to(folder).with_suffix("")).replace("/", ".")
    for folder in ROOT.glob("*/src")
    for path in folder.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_an_example_gives_what_it_shows(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed
