"""A whole dashboard: its title, and its panels where its grid has them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tools.monitoring.answers import Answers
from tools.monitoring.picture.graph import FAINT
from tools.monitoring.picture.panels import draw
from tools.monitoring.picture.shapes import Box, Drawing

COLUMN: Final = 54.0  # width; a dashboard has 24
LINE: Final = 29.0  # height
HEAD: Final = 44.0
GAP: Final = 3.0


def svg(dashboard: Mapping[str, Any], answers: Answers) -> str:
    """`dashboard` with these answers."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    width = 24 * COLUMN
    height = HEAD + max(place["y"] + place["h"] for place in places) * LINE
    drawing = Drawing()
    drawing.rectangle(Box(0, 0, width, height + GAP), "#f4f5f5")
    drawing.text(10, 28, dashboard["title"], size=17, bold=True)
    ends = (datetime.fromtimestamp(at, UTC) for at in (answers.span.start, answers.span.end))
    between = " – ".join(f"{end:%d %b %Y %H:%M}" for end in ends)
    drawing.text(width - 10, 28, f"{between} UTC", color=FAINT, anchor="end")
    for panel, place in zip(dashboard["panels"], places, strict=True):
        box = Box(place["x"] * COLUMN, HEAD + place["y"] * LINE, place["w"] * COLUMN, place["h"] * LINE)
        if panel["type"] == "row":
            drawing.text(box.x + 10, box.y + 20, panel["title"], size=13, bold=True)
        else:
            draw(drawing, panel, answers, box.inside(GAP, GAP, GAP, GAP))
    return drawing.svg(width, height + GAP)
