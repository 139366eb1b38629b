"""Each kind's folder in the operator has its place in the import contracts."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

from footplate_operator.__main__ import KINDS

ROOT = Path(__file__).parents[3]
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["name"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}
FOLDERS = {controller.__module__.split(".")[1] for controller in KINDS}


def test_each_kind_is_a_layer_of_the_operator() -> None:
    layers = CONTRACTS["the layers of the operator"]["layers"]
    assert {name for layer in layers for name in layer.split(" | ")} >= FOLDERS


def test_runtime_may_import_no_kind() -> None:
    forbidden = CONTRACTS["the machinery of the operator knows no kind"]["forbidden_modules"]
    assert {f"footplate_operator.{folder}" for folder in FOLDERS} <= set(forbidden)


def test_each_kind_is_a_package() -> None:
    for folder in FOLDERS:
        assert importlib.import_module(f"footplate_operator.{folder}").__doc__
