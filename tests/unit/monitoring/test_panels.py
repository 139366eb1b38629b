"""What the kinds of panels make of their arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tools.monitoring.expressions import Expression
from tools.monitoring.panels import Column, Limits, Query, Unit, bars, rows, single, trend

ABOUT = ("Title", "What it is.", Unit.SECONDS)
QUERY = Query(Expression("a"), "{{b}}")


def built(panel: Any) -> dict[str, Any]:
    """As it is in the JSON of a dashboard."""
    return json.loads(JSONEncoder().encode(panel.build()))


@pytest.mark.parametrize(
    ("panel", "kind"),
    [
        pytest.param(single(*ABOUT, QUERY), "stat", id="single"),
        pytest.param(trend(*ABOUT, QUERY), "timeseries", id="trend"),
        pytest.param(bars(*ABOUT, QUERY), "bargauge", id="bars"),
        pytest.param(rows(*ABOUT, {"b": "B"}, Column("A", QUERY.expression), sort="A"), "table", id="rows"),
    ],
)
def test_each_kind_says_what_it_is_for_and_whom_it_asks(panel: Any, kind: str) -> None:
    json_of = built(panel)
    assert json_of["type"] == kind
    assert (json_of["title"], json_of["description"]) == ABOUT[:2]
    assert json_of["fieldConfig"]["defaults"]["unit"] == "s"
    [target] = json_of["targets"]
    assert target["expr"] == "a"
    assert json_of["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "$datasource"}


def test_a_number_without_history_asks_for_now() -> None:
    assert built(single(*ABOUT, QUERY))["targets"][0]["range"] is True
    plain = built(single(*ABOUT, QUERY, history=False))
    assert (plain["targets"][0]["instant"], plain["options"]["graphMode"]) == (True, "none")


@pytest.mark.parametrize(
    ("limits", "steps"),
    [
        pytest.param(Limits.rising(1), [(None, "green"), (1, "orange")], id="warning"),
        pytest.param(Limits.rising(1, 2), [(None, "green"), (1, "orange"), (2, "red")], id="rising"),
        pytest.param(
            Limits.falling(0.9, 0.8), [(None, "red"), (0.8, "orange"), (0.9, "green")], id="falling"
        ),
        pytest.param(Limits.none(), [(None, "green"), (1, "red")], id="none"),
        pytest.param(Limits.one(), [(None, "red"), (1, "green"), (2, "red")], id="one"),
    ],
)
def test_limits_color_a_number(limits: Limits, steps: list[tuple[float | None, str]]) -> None:
    found = built(single(*ABOUT, QUERY, limits=limits))["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in found] == steps


def test_a_table_shows_a_label_in_place_of_a_value() -> None:
    table = built(
        rows(
            *ABOUT,
            {"name": "Run"},
            Column("Phase", Expression("a"), label="phase", colors={"Running": "green"}),
            Column("Steps", Expression("b"), Unit.COUNT),
            sort="Steps",
            links={"Run": "/d/x"},
        )
    )
    assert [step["id"] for step in table["transformations"]] == ["merge", "organize"]
    assert table["transformations"][1]["options"] == {
        "renameByName": {"name": "Run", "phase": "Phase", "Value #B": "Steps"},
        "indexByName": {"name": 0, "phase": 1, "Value #B": 2},
        "excludeByName": {"Time": True, "Value #A": True},
    }
    said = {
        override["matcher"]["options"]: {known["id"]: known["value"] for known in override["properties"]}
        for override in table["fieldConfig"]["overrides"]
    }
    assert said["Steps"] == {"unit": "short"}
    assert said["Run"] == {"links": [{"title": "Show", "url": "/d/x", "targetBlank": False}]}
    assert said["Phase"]["mappings"] == [
        {"type": "value", "options": {"Running": {"text": "Running", "color": "green", "index": 0}}}
    ]
