"""The metrics that docs/observability.md tells of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
EXPOSED: Final = ("Prometheus", "The operator")  # sections whose tables tell what the programs expose
_ROW: Final = re.compile(r"^\| (`[^|]+) \|", re.MULTILINE)
_NAME: Final = re.compile(r"`((?:\w+:)?footplate_[\w:]+)`")


def documented(*sections: str) -> set[str]:
    """Names in the first column of the tables of `sections`, by their headings; else of what is exposed."""
    found: set[str] = set()
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE):
        if section.partition("\n")[0] in (sections or EXPOSED):
            found |= {name for row in _ROW.findall(section) for name in _NAME.findall(row)}
    return found
