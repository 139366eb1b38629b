"""Costs as CSV, for requests that accept `text/csv`; pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from footplate_api.costs.grouping import Grouping
from footplate_api.costs.rows import CostLine
from footplate_ledger.conversion import format_time

MEDIA_TYPE: Final = "text/csv"
# Before which spreadsheets take a text for a formula; values are those of whoever made a run.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
AMOUNTS: Final = (
    "dollars",
    "kilowatt_hours",
    "carbon_kilograms",
    "node_seconds",
    "unpriced_node_seconds",
    "estimated_node_seconds",
    "device_seconds",
    "coordinator_dollars",
    "idle_dollars",
    "idle_node_seconds",
)


def prefers_csv(accept: str | None) -> bool:
    """Return whether an Accept header prefers CSV to JSON.

    >>> accepted = ["text/csv", "application/json, text/csv;q=0.5", "*/*", None]
    >>> tuple(prefers_csv(accept) for accept in accepted)
    (True, False, False, False)
    """
    found = {}
    for part in (accept or "").lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        found[kind] = max((_quality(word) for word in parameters if word.startswith("q=")), default=1.0)
    others = (found.get(kind, 0.0) for kind in ("application/json", "application/*"))
    return found.get(MEDIA_TYPE, 0.0) > max(others)


def _quality(text: str) -> float:
    try:
        return float(text.removeprefix("q="))
    except ValueError:
        return 0.0


def table(grouping: Grouping, rows: Sequence[CostLine], names: Sequence[str]) -> bytes:
    """Return a header and a line for each row; unknown values are empty. `names` are those of AMOUNTS."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["kind", "from", "to", "at", *grouping.names, *names])
    for row in rows:
        amounts = [getattr(row, name) for name in AMOUNTS]
        writer.writerow(
            [
                row.kind.value,
                format_time(row.span.start),
                format_time(row.span.end),
                "" if row.at is None else format_time(row.at),
                *(_safe(value) for value in row.group),
                *("" if amount is None else f"{amount:f}" for amount in amounts),
            ]
        )
    return file.getvalue().encode()


def _safe(value: str | None) -> str:
    """Return `value` in a form that no spreadsheet takes for a formula.

    >>> _safe("team-a"), _safe("=HYPERLINK(1)")
    ('team-a', "'=HYPERLINK(1)")
    """
    if value is None:
        return ""
    return f"'{value}" if value.startswith(_FORMULA) else value
