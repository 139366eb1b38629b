"""Numbers over time: lines, areas on top of each other, or bars; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tools.monitoring.answers import Answers, Span
from tools.monitoring.picture.reading import Named, Panel, defaults, named
from tools.monitoring.picture.shapes import COLORS, LETTER, Box, Drawing, Point
from tools.monitoring.picture.units import shown

FAINT: Final = "#6e7680"
GRID: Final = "#e3e5e8"
DAY: Final = 86_400  # seconds
_TIMES: Final = (
    300,
    900,
    1_800,
    3_600,
    7_200,
    10_800,
    21_600,
    43_200,
    DAY,
    2 * DAY,
    7 * DAY,
)  # between labels


@dataclass(frozen=True)
class _Plane:
    """Where a point in time and a value are in the picture."""

    box: Box
    span: Span
    low: float
    high: float

    def x(self, at: float) -> float:
        return self.box.x + (at - self.span.start) / (self.span.end - self.span.start) * self.box.width

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.box.bottom - share * self.box.height


def graph(drawing: Drawing, panel: Panel, answers: Answers, box: Box) -> None:
    """A panel of the kind `timeseries`."""
    series = named(panel, answers)
    custom = defaults(panel).get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    floors = _stacked(series) if stacked else [{} for _ in series]
    ticks = _ticks(panel, series, floors)
    plane = _Plane(box.inside(48, 4, 4, 34), answers.span, ticks[0], ticks[-1])
    _axes(drawing, plane, ticks, defaults(panel).get("unit", "none"))
    for known, floor in zip(series, floors, strict=True):
        if custom.get("drawStyle") == "bars":
            _draw_bars(drawing, plane, known, floor, custom.get("barWidthFactor", 0.6))
        else:
            _draw_line(drawing, plane, known, floor, custom.get("fillOpacity", 0) / 100)
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        _limits(drawing, plane, panel)
    if not series:
        drawing.text(box.x + box.width / 2, box.y + box.height / 2, "no data", color=FAINT, anchor="middle")
    legend(drawing, series, box)


def legend(drawing: Drawing, series: Sequence[Named], box: Box) -> None:
    """Names with their colors in one line; of what has no room, how many."""
    x, y = box.x, box.bottom - 4
    for place, known in enumerate(series):
        width = 18 + len(known.name) * 10 * LETTER
        more = f"+ {len(series) - place}"
        if x + width + (40 if place + 1 < len(series) else 0) > box.right:
            drawing.text(x, y, more, size=10, color=FAINT)
            return
        drawing.rectangle(Box(x, y - 5, 9, 3), known.color)
        drawing.text(x + 13, y, known.name, size=10, color=FAINT)
        x += width + 6


def _stacked(series: Sequence[Named]) -> list[dict[float, float]]:
    """For each series, upon what its points stand: the sum of those before it at that time."""
    sums: dict[float, float] = {}
    floors = []
    for known in series:
        floors.append({at: sums.get(at, 0.0) for at, _ in known.series.points})
        for at, value in known.series.points:
            sums[at] = sums.get(at, 0.0) + value
    return floors


def axis(low: float, high: float) -> list[float]:
    """Round numbers at the same distance, the first at or below `low`, the last at or above `high`."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def _ticks(panel: Panel, series: Sequence[Named], floors: Sequence[dict[float, float]]) -> list[float]:
    """The axis of a graph, from its `min` to its `max`, where it has them."""
    values = [
        value + floor.get(at, 0.0)
        for known, floor in zip(series, floors, strict=True)
        for at, value in known.series.points
        if math.isfinite(value)
    ]
    low = defaults(panel).get("min", min(values, default=0.0))
    return axis(low, defaults(panel).get("max", max(values, default=1.0)))


def _axes(drawing: Drawing, plane: _Plane, ticks: Sequence[float], unit: str) -> None:
    box, span = plane.box, plane.span
    for tick in ticks:
        drawing.line([(box.x, plane.y(tick)), (box.right, plane.y(tick))], GRID, width=1)
        drawing.text(box.x - 5, plane.y(tick) + 3, shown(tick, unit), size=9, color=FAINT, anchor="end")
    most = box.width / 52  # labels that have room
    apart = next((known for known in _TIMES if (span.end - span.start) / known <= most), _TIMES[-1])
    at = math.ceil(span.start / apart) * apart
    while at <= span.end:
        pattern = "%H:%M" if at % DAY else "%d %b"
        text = datetime.fromtimestamp(at, UTC).strftime(pattern)
        drawing.text(plane.x(at), box.bottom + 12, text, size=9, color=FAINT, anchor="middle")
        at += apart


def _pieces(points: Sequence[Point], apart: float) -> Iterator[list[Point]]:
    """Points without a gap between them."""
    piece: list[Point] = []
    for point in points:
        if piece and point[0] - piece[-1][0] > apart:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def _draw_line(drawing: Drawing, plane: _Plane, known: Named, floor: dict[float, float], fill: float) -> None:
    for piece in _pieces(known.series.points, plane.span.step * 1.5):
        tops = [(plane.x(at), plane.y(value + floor.get(at, 0.0))) for at, value in piece]
        if len(tops) == 1:  # a point alone is as long as a step
            tops.append((tops[0][0] + 2, tops[0][1]))
        bottoms = [(plane.x(at), plane.y(floor.get(at, plane.low))) for at, _ in reversed(piece)]
        drawing.area([*tops, *bottoms], known.color, fill)
        drawing.line(tops, known.color, width=1.2)


def _draw_bars(
    drawing: Drawing, plane: _Plane, known: Named, floor: dict[float, float], factor: float
) -> None:
    width = plane.box.width * plane.span.step / (plane.span.end - plane.span.start) * factor
    for at, value in known.series.points:
        bottom, top = plane.y(floor.get(at, 0.0)), plane.y(value + floor.get(at, 0.0))
        left = min(plane.x(at), plane.box.right - width)
        drawing.rectangle(Box(left, top, width, bottom - top), known.color)


def _limits(drawing: Drawing, plane: _Plane, panel: Panel) -> None:
    for step in defaults(panel)["thresholds"]["steps"]:
        if step["value"] is not None and plane.low <= step["value"] <= plane.high:
            y = plane.y(step["value"])
            drawing.line(
                [(plane.box.x, y), (plane.box.right, y)], COLORS[step["color"]], width=1, dashed=True
            )
