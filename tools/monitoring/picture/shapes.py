"""SVG by hand: the few shapes that a picture of a dashboard is made of; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final, Literal
from zlib import crc32

LETTER: Final = 0.56  # mean width of a letter, of its size
COLORS: Final = {  # as Grafana names them
    "text": "#24292e",
    "green": "#56a64b",
    "dark-green": "#37872d",
    "orange": "#ff780a",
    "red": "#e02f44",
    "purple": "#a352cc",
    "blue": "#3274d9",
    "light-blue": "#8ab8ff",
}
_PALETTE: Final = (
    "#56a64b", "#f2cc0c", "#3274d9", "#ff780a", "#a352cc", "#e02f44",
    "#37bbc8", "#8f3bb8", "#6ed0a0", "#c4162a", "#1f60c4", "#b877d9",
)  # fmt: skip
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A place in the picture."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.y + self.height

    def inside(self, left: float, top: float, right: float = 0, bottom: float = 0) -> Box:
        """What is left of it within margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


@dataclass
class Drawing:
    """Shapes in the order in which they are drawn."""

    shapes: list[str] = field(default_factory=list)

    def svg(self, width: float, height: float) -> str:
        """The whole picture."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}"'
        lines = [f'{head} font-family="Inter, Helvetica, Arial, sans-serif">', *self.shapes, "</svg>"]
        return "\n".join(lines) + "\n"

    def rectangle(
        self, box: Box, color: str, *, edge: str = "none", opacity: float = 1, rounding: float = 0
    ) -> None:
        """Filled."""
        place = f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"'
        more = f' fill-opacity="{opacity:g}"' if opacity != 1 else ""
        more += f' stroke="{edge}"' if edge != "none" else ""
        self.shapes.append(f'<rect {place} rx="{_n(rounding)}" fill="{color}"{more}/>')

    def line(self, points: Sequence[Point], color: str, *, width: float = 1.5, dashed: bool = False) -> None:
        """From point to point."""
        more = ' stroke-dasharray="5 4"' if dashed else ""
        text = f'fill="none" stroke="{color}" stroke-width="{width:g}"{more}'
        self.shapes.append(f'<polyline points="{_path(points)}" {text}/>')

    def area(self, points: Sequence[Point], color: str, opacity: float) -> None:
        """Filled between points."""
        self.shapes.append(f'<polygon points="{_path(points)}" fill="{color}" fill-opacity="{opacity:g}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 11,
        color: str = COLORS["text"],
        anchor: Literal["start", "middle", "end"] = "start",
        bold: bool = False,
        room: float | None = None,
    ) -> None:
        """On a base line; cut where there is no more `room`."""
        if room is not None and len(text) * size * LETTER > room:
            text = text[: max(1, int(room / size / LETTER) - 1)] + "…"
        more = f' text-anchor="{anchor}"' if anchor != "start" else ""
        more += ' font-weight="600"' if bold else ""
        self.shapes.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{color}"{more}>{escape(text)}</text>'
        )


def palette(names: Sequence[str]) -> list[str]:
    """A color of each name: the same in every picture, unless another one beside it has it."""
    taken: list[str] = []
    for name in names:
        first = crc32(name.encode())
        order = [_PALETTE[(first + place) % len(_PALETTE)] for place in range(len(_PALETTE))]
        taken.append(next((color for color in order if color not in taken), order[0]))
    return taken


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
