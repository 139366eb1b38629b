"""What a row of the tests of rules is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`changes` of a good spec lead to `complaint`, one of the lines that the API server answers."""

    name: str
    changes: dict[str, object]
    complaint: str
