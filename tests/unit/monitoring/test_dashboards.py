"""The dashboards that the chart ships, as Grafana imports them; `make verify` holds them to their code."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tools.monitoring import linter, promql
from tools.monitoring.names import Counter, Foreign, ForeignCounter, Gauge, Histogram, Recorded

from tests.support.nonempty import nonempty

Json = dict[str, Any]
FOLDER: Final = Path(__file__).resolve().parents[3] / "charts" / "footplate" / "dashboards"
FILES: Final = nonempty(sorted(FOLDER.iterdir()))
BOARDS: Final = {path.stem: json.loads(path.read_text()) for path in FILES}
EACH: Final = pytest.mark.parametrize(
    "board", [pytest.param(board, id=name) for name, board in BOARDS.items()]
)
WIDTH: Final = 24  # columns of a dashboard
HISTOGRAMS: Final = {f"{name}{ending}" for name in Histogram for ending in ("_bucket", "_sum", "_count")}
KNOWN: Final = {*Gauge, *Counter, *Recorded, *Foreign, *ForeignCounter, *HISTOGRAMS}


def properties(panel: Json, name: str) -> Iterator[Any]:
    """What the overrides of a panel say of a property."""
    for override in panel["fieldConfig"]["overrides"]:
        yield from (said["value"] for said in override["properties"] if said["id"] == name)


@EACH
def test_it_keeps_the_rules_of_grafanas_linter(board: Json) -> None:
    assert linter.faults(board) == []


@EACH
def test_it_asks_for_metrics_that_exist(board: Json) -> None:
    asked = {
        selector.name for _, target in linter.targets(board) for selector in promql.selectors(target["expr"])
    }
    assert asked <= KNOWN


@EACH
def test_columns_of_tables_have_units_that_grafana_knows(board: Json) -> None:
    units = {unit for panel in linter.panels(board) for unit in properties(panel, "unit")}
    assert units <= linter.UNITS


@EACH
def test_panels_fill_the_width_and_do_not_overlap(board: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
            )
        )
        assert not cells & taken, panel["title"]
        taken |= cells
    lines = max(y for _, y in taken) + 1
    assert taken == set(itertools.product(range(WIDTH), range(lines))), "there is a gap"


@EACH
def test_numbers_of_panels_and_letters_of_queries_are_their_own(board: Json) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in linter.panels(board):
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]


@EACH
def test_titles_are_their_own_and_descriptions_are_sentences(board: Json) -> None:
    titles = [panel["title"] for panel in linter.panels(board)]
    assert len(set(titles)) == len(titles)
    for panel in linter.panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert "  " not in panel["description"], panel["title"]


@EACH
def test_each_series_of_a_graph_has_a_name(board: Json) -> None:
    for panel in linter.panels(board):
        if panel["type"] in ("timeseries", "bargauge"):
            legends = [target["legendFormat"] for target in panel["targets"]]
            assert all(legends), panel["title"]
            assert len(set(legends)) == len(legends), panel["title"]


@EACH
def test_a_table_shows_the_columns_that_it_orders_and_colors(board: Json) -> None:
    for panel in linter.panels(board):
        if panel["type"] == "table":
            [arranged] = [step["options"] for step in panel["transformations"] if step["id"] == "organize"]
            titles = set(arranged["renameByName"].values())
            assert {
                override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]
            } <= titles
            assert {order["displayName"] for order in panel["options"]["sortBy"]} <= titles
            values = {f"Value #{target['refId']}" for target in panel["targets"]} - {"Value #A"}
            assert values <= {*arranged["renameByName"], *arranged["excludeByName"]}


@EACH
def test_variables_that_are_used_are_there(board: Json) -> None:
    texts = [target["expr"] for _, target in linter.targets(board)]
    texts += [linter.query_of(variable) for variable in linter.variables(board).values()]
    used = {name for text in texts for name in re.findall(r"\$([a-z]+)", text)}
    assert used <= linter.variables(board).keys()


@EACH
def test_links_lead_to_dashboards_and_variables_that_are_there(board: Json) -> None:
    assert [(link["type"], link["tags"]) for link in board["links"]] == [("dashboards", ["footplate"])]
    for panel in linter.panels(board):
        for link in itertools.chain(*properties(panel, "links")):
            uid, _, parameters = link["url"].removeprefix("/d/").partition("?")
            known = linter.variables(BOARDS[uid])
            assert set(re.findall(r"var-(\w+)=", parameters)) <= known.keys()


def test_an_address_and_a_file_are_of_one_dashboard() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {name: name for name in BOARDS}
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)
    assert all("footplate" in board["tags"] for board in BOARDS.values())


def test_each_fits_into_a_config_map_that_is_applied() -> None:
    """`kubectl apply` notes an object in an annotation, for which an object has 256 KiB."""
    assert all(path.stat().st_size < 128 * 1024 for path in FILES)
