"""What a panel's JSON says of its series: names, colors, limits, units; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tools.monitoring.answers import Answers, Series
from tools.monitoring.picture.shapes import COLORS, palette

Panel = Mapping[str, Any]
PLAIN: Final = COLORS["text"]


@dataclass(frozen=True)
class Named:
    """A series under the name that its legend gives it, in its color."""

    name: str
    color: str
    series: Series


def defaults(panel: Panel) -> Mapping[str, Any]:
    """What holds for each of its fields."""
    said: Mapping[str, Any] = panel["fieldConfig"]["defaults"]
    return said


def properties(panel: Panel, name: str) -> dict[str, Any]:
    """What overrides say of the field of that name, by property."""
    return {
        said["id"]: said["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"] == {"id": "byName", "options": name}
        for said in override["properties"]
    }


def named(panel: Panel, answers: Answers) -> list[Named]:
    """All series, in the order of the queries."""
    found = [
        (_legend(target["legendFormat"], series), series)
        for target in panel["targets"]
        for series in answers.of(panel, target["refId"])
    ]
    colors = palette([name for name, _ in found])
    return [
        Named(name, _fixed(panel, name) or color, series)
        for (name, series), color in zip(found, colors, strict=True)
    ]


def limit_color(thresholds: Mapping[str, Any] | None, value: float) -> str:
    """The color of a value; that of text where there are no thresholds."""
    color = "text"
    for step in (thresholds or {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return COLORS[color]


def _legend(pattern: str, series: Series) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: series.labels.get(found[1], ""), pattern)


def _fixed(panel: Panel, name: str) -> str | None:
    color = properties(panel, name).get("color")
    return COLORS[color["fixedColor"]] if color else None
