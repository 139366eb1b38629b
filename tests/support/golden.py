"""Texts that change on purpose only: compared letter by letter, written anew by a test under GOLDEN=write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent / "golden"


class _Dumper(yaml.SafeDumper):
    """Each value in full, and text of several lines as text of several lines."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_yaml(body: dict[str, Any]) -> str:
    """`body` in the order in which it was made."""
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


def assert_golden(name: str, text: str) -> None:
    """`text` is what stands in tests/golden/`name`; with GOLDEN=write it does so from now on."""
    path = ROOT / name
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    golden = path.read_text() if path.exists() else ""
    assert text == golden, f"tests/golden/{name} says otherwise; if this is meant: GOLDEN=write"
