"""A panel with its answers as shapes: number, graph, bars or table; pure.

It draws what our panels use of Grafana, and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tools.monitoring.answers import Answers
from tools.monitoring.picture.graph import FAINT, GRID, graph
from tools.monitoring.picture.reading import PLAIN, Panel, defaults, limit_color, named, properties
from tools.monitoring.picture.shapes import COLORS, LETTER, Box, Drawing
from tools.monitoring.picture.units import shown

LINE: Final = 18  # height of a row of a table


def draw(drawing: Drawing, panel: Panel, answers: Answers, box: Box) -> None:
    """`panel` at its place."""
    drawing.rectangle(box, "#ffffff", edge="#d5d8dc", rounding=3)
    drawing.text(box.x + 8, box.y + 16, panel["title"], bold=True, room=box.width - 16)
    kinds = {"stat": _number, "timeseries": graph, "bargauge": _bars, "table": _table}
    kinds[panel["type"]](drawing, panel, answers, box.inside(8, 24, 8, 6))


def _number(drawing: Drawing, panel: Panel, answers: Answers, box: Box) -> None:
    found = named(panel, answers)
    middle = box.x + box.width / 2
    if not found:
        drawing.text(middle, box.y + box.height / 2 + 8, "–", size=26, color=FAINT, anchor="middle")
        return
    known = found[-1]
    color = limit_color(defaults(panel).get("thresholds"), known.series.last)
    if panel["options"]["textMode"] == "name":
        text = known.name
    else:
        text = shown(known.series.last, defaults(panel)["unit"], answers.span.end)
    if panel["options"]["graphMode"] == "area":
        _background(drawing, [value for _, value in known.series.points], color, box)
    size = min(28.0, box.width / max(1, len(text)) / LETTER * 0.9)
    drawing.text(
        middle, box.y + box.height * 0.5 + 6, text, size=size, color=color, anchor="middle", bold=True
    )


def _background(drawing: Drawing, values: list[float], color: str, box: Box) -> None:
    """The history of a number behind it."""
    low, high = min(values), max(values)
    if len(values) < 2 or high <= low:
        return
    apart, tall = box.width / (len(values) - 1), box.height * 0.3
    tops = [
        (box.x + place * apart, box.bottom - (value - low) / (high - low) * tall)
        for place, value in enumerate(values)
    ]
    drawing.area([(box.x, box.bottom), *tops, (box.right, box.bottom)], color, 0.12)
    drawing.line(tops, color, width=1)


def _bars(drawing: Drawing, panel: Panel, answers: Answers, box: Box) -> None:
    found = sorted(named(panel, answers), key=lambda known: -known.series.last)
    if not found:
        drawing.text(box.x + box.width / 2, box.y + box.height / 2, "no data", color=FAINT, anchor="middle")
        return
    most = max(known.series.last for known in found) or 1.0
    tall = min(22.0, box.height / len(found))
    for place, known in enumerate(found):
        y = box.y + place * tall
        value = known.series.last
        names, numbers = box.width * 0.45, 62.0
        drawing.text(box.x, y + tall * 0.65, known.name, size=10, room=names - 6)
        color = limit_color(defaults(panel).get("thresholds"), value)
        width = max(1.0, (box.width - names - numbers) * value / most)
        fill = COLORS["blue"] if color == PLAIN else color
        drawing.rectangle(Box(box.x + names, y + tall * 0.2, width, tall * 0.6), fill)
        text = shown(value, defaults(panel)["unit"])
        drawing.text(box.right, y + tall * 0.65, text, size=10, anchor="end")


@dataclass(frozen=True)
class _Cell:
    text: str
    color: str
    order: float  # of its row, where the table is ordered by its column


def _table(drawing: Drawing, panel: Panel, answers: Answers, box: Box) -> None:
    titles, lines = table_of(panel, answers)
    room = box.width / len(titles)
    for place, title in enumerate(titles):
        drawing.text(
            box.x + place * room, box.y + 10, title, size=10, color=COLORS["blue"], bold=True, room=room
        )
    fitting = int((box.height - 16) / LINE)
    for row, cells in enumerate(lines[:fitting]):
        y = box.y + 16 + row * LINE
        drawing.line([(box.x, y), (box.right, y)], GRID, width=1)
        for place, title in enumerate(titles):
            cell = cells.get(title)
            if cell is not None:
                drawing.text(box.x + place * room, y + 13, cell.text, size=10.5, color=cell.color, room=room)
    if len(lines) > fitting:
        more = f"and {len(lines) - fitting} more"
        drawing.text(box.right, box.bottom + 2, more, size=9, color=FAINT, anchor="end")


def table_of(panel: Panel, answers: Answers) -> tuple[list[str], list[dict[str, _Cell]]]:
    """Titles, and the cells of each row by title: merged by labels, arranged and ordered as `panel` says."""
    [arranged] = [step["options"] for step in panel["transformations"] if step["id"] == "organize"]
    renamed: Mapping[str, str] = arranged["renameByName"]
    titles = sorted(renamed, key=lambda name: arranged["indexByName"][name])
    keys = _keys(panel, answers, titles)
    rows: dict[tuple[str, ...], dict[str, _Cell]] = {}
    for target in panel["targets"]:
        field = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
        for series in answers.of(panel, target["refId"]):
            row = rows.setdefault(tuple(series.labels.get(key, "") for key in keys), {})
            for name in series.labels.keys() & renamed.keys():
                row[renamed[name]] = _label(panel, renamed[name], series.labels[name])
            if field in renamed:
                row[renamed[field]] = _value(panel, renamed[field], series.last, answers.span.end)
    order = panel["options"]["sortBy"][0]
    found = sorted(
        rows.values(),
        key=lambda row: row[order["displayName"]].order if order["displayName"] in row else float("-inf"),
        reverse=order["desc"],
    )
    return [renamed[name] for name in titles], found


def _keys(panel: Panel, answers: Answers, shown_labels: Collection[str]) -> list[str]:
    """The labels by which rows are merged: those that the series of all queries have."""
    names = [
        {name for series in found for name in series.labels}
        for target in panel["targets"]
        if (found := answers.of(panel, target["refId"]))
    ]
    return sorted(set(shown_labels).intersection(*names)) if names else []


def _label(panel: Panel, title: str, value: str) -> _Cell:
    for mapping in properties(panel, title).get("mappings", ()):
        if value in mapping["options"]:
            return _Cell(value, COLORS[mapping["options"][value]["color"]], 0.0)
    return _Cell(value, PLAIN, 0.0)


def _value(panel: Panel, title: str, value: float, now: float) -> _Cell:
    said: Mapping[str, Any] = properties(panel, title)
    text = shown(value, said.get("unit", defaults(panel)["unit"]), now)
    return _Cell(text, limit_color(said.get("thresholds"), value), value)
