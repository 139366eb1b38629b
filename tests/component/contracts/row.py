"""What a row of the tests of rules is."""

from __future__ import annotations

from dataclasses import dataclass

UNSUPPORTED = "is not supported by this release"


@dataclass(frozen=True)
class Row:
    """`changes` of a good spec lead to `complaint`, one of the lines that the API server answers."""

    name: str
    changes: dict[str, object]
    complaint: str


def refused(path: str, value: object) -> Row:
    """A field without behaviour yet."""
    field = path.rsplit(".", 1)[-1]
    complaint = f"spec.{path}: Forbidden: {field} {UNSUPPORTED}; remove it"
    return Row(f"{path}-refused", {path: value}, complaint)


COMING: tuple[Row, ...] = (
    refused("queue", "research"),
    refused("resilience.straggler", {"ratio": 2}),
    refused("resilience.preflight", {"enabled": True}),
    refused("trainer.command", ["python", "train.py"]),
    refused("trainer.args", ["--fast"]),
)
"""Fields of coming work, which the API server refuses until then."""
