"""Quantities as Kubernetes writes them."""

from __future__ import annotations

import re
from typing import Final

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)(m|k|[KMGTPE]i|[MGTPE])?")
_UNITS: Final = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)
}


def parse_quantity(text: object) -> float | None:
    """Parse a Kubernetes quantity, or a number; return None for anything else."""
    found = _QUANTITY.fullmatch(str(text))
    return float(found[1]) * _UNITS[found[2] or ""] if found else None
