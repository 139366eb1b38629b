"""Pictures of dashboards: what numbers look like, who is in which row, and that all of it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
from tools.monitoring import linter
from tools.monitoring.answers import Answers, Series, Span
from tools.monitoring.picture.board import svg
from tools.monitoring.picture.graph import axis
from tools.monitoring.picture.panels import table_of
from tools.monitoring.picture.shapes import palette
from tools.monitoring.picture.units import shown

from tests.support.nonempty import nonempty

FOLDER: Final = Path(__file__).resolve().parents[3] / "charts" / "footplate" / "dashboards"
BOARDS: Final = {path.stem: json.loads(path.read_text()) for path in nonempty(sorted(FOLDER.iterdir()))}
EACH: Final = pytest.mark.parametrize(
    "board", [pytest.param(board, id=name) for name, board in BOARDS.items()]
)
SPAN: Final = Span(start=1_800_000_000, end=1_800_003_600, step=60)
LABELS: Final = {"namespace": "team-a", "name": "tiny", "phase": "Running", "pod": "tiny-w0-0"}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        pytest.param(0, "short", "0", id="zero"),
        pytest.param(1234, "short", "1.23 K", id="thousands"),
        pytest.param(100_000, "none", "100000", id="no-thousands"),
        pytest.param(0.924, "percentunit", "92.4 %", id="percent"),
        pytest.param(0.0427, "s", "42.7 ms", id="milliseconds"),
        pytest.param(7200, "s", "2 h", id="hours"),
        pytest.param(0, "s", "0 s", id="no-time"),
        pytest.param(3 * 2**30, "bytes", "3 GiB", id="bytes"),
        pytest.param(12_700, "currencyUSD", "$12.7K", id="dollars"),
        pytest.param(5600, "watt", "5.6 kW", id="watts"),
        pytest.param(4660, "kwatth", "4.66 MWh", id="energy"),
        pytest.param(64_800, "massg", "64.8 kg", id="grams"),
        pytest.param(66, "celsius", "66 °C", id="celsius"),
        pytest.param(6.02, "reqps", "6.02/s", id="requests"),
        pytest.param(8_200_000, "dateTimeFromNow", "in 2 h", id="in-the-future"),
        pytest.param(940_000, "dateTimeFromNow", "1 min ago", id="in-the-past"),
    ],
)
def test_how_a_number_is_shown(value: float, unit: str, text: str) -> None:
    assert shown(value, unit, now=1000) == text


def texts(picture: str) -> list[str]:
    """All that is written in it; it parses."""
    return [
        element.text or ""
        for element in ElementTree.fromstring(picture).iter()
        if element.tag.endswith("text")
    ]


def answered(board: dict[str, Any], *series: Series) -> Answers:
    """Each query finds these."""
    found = {
        (panel["id"], target["refId"]): series
        for panel in linter.panels(board)
        for target in panel["targets"]
    }
    return Answers(SPAN, found)


@EACH
@pytest.mark.parametrize(
    "series",
    [
        pytest.param((), id="no-data"),
        pytest.param((Series(LABELS, ((SPAN.end, 0.0),)),), id="a-zero"),
        pytest.param((Series(LABELS, ((SPAN.start, 1e9), (SPAN.end, -1.0))),), id="a-gap"),
        pytest.param(
            tuple(Series({**LABELS, "name": f"<{n}&>"}, ((SPAN.end, n),)) for n in range(40)), id="many"
        ),
    ],
)
def test_each_panel_is_in_the_picture(board: dict[str, Any], series: tuple[Series, ...]) -> None:
    picture = svg(board, answered(board, *series))
    written = texts(picture)
    assert written[0] == board["title"]
    for panel in board["panels"]:
        assert any(text.startswith(panel["title"][:12]) for text in written), panel["title"]
    numbers = [
        value for element in ElementTree.fromstring(picture).iter() for value in element.attrib.values()
    ]
    assert not [value for value in numbers if "nan" in value or value.startswith(("inf", "-inf"))]


def test_rows_of_a_table_are_merged_ordered_and_colored() -> None:
    board = BOARDS["footplate-fleet"]
    [table] = [panel for panel in linter.panels(board) if panel["type"] == "table"]
    letters = {
        panel_title(table, f"Value #{target['refId']}"): target["refId"] for target in table["targets"]
    }
    phases = [Series({"namespace": "a", "name": name, "phase": "Running"}, ((0, 1),)) for name in ("x", "y")]
    ages = [Series({"namespace": "a", "name": name}, ((0, age),)) for name, age in (("x", 5), ("y", 700))]
    found = {(table["id"], "A"): tuple(phases), (table["id"], letters["Last step"]): tuple(ages)}
    titles, rows = table_of(table, Answers(SPAN, found))
    assert titles[:4] == ["Namespace", "Run", "Phase", "Progress"]
    assert [(row["Run"].text, row["Phase"].text, row["Last step"].text) for row in rows] == [
        ("y", "Running", "11.7 min"),
        ("x", "Running", "5 s"),
    ]
    assert rows[0]["Last step"].color != rows[1]["Last step"].color
    assert "Progress" not in rows[0]


def panel_title(table: dict[str, Any], field: str) -> str:
    """Under which title a table has a field."""
    [arranged] = [step["options"] for step in table["transformations"] if step["id"] == "organize"]
    return str(arranged["renameByName"].get(field, ""))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        pytest.param(0, 100, [0, 25, 50, 75, 100], id="hundred"),
        pytest.param(0, 7, [0, 2, 4, 6, 8], id="seven"),
        pytest.param(1.9, 5.1, [1, 2, 3, 4, 5, 6], id="not-from-zero"),
        pytest.param(3, 3, [3, 4, 5, 6], id="flat"),
    ],
)
def test_an_axis_has_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert axis(low, high) == pytest.approx(ticks)


def test_series_beside_each_other_have_colors_of_their_own() -> None:
    names = ["data", "compute", "optimizer", "checkpoint", "validation", "communication"]
    assert len(set(palette(names))) == len(names)
    assert palette(["data"]) == palette(names)[:1]
