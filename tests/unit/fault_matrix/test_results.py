"""Results are kept by product and cell, and the page is made of them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.matrix import CELLS, POD_CELLS, Phase
from tests.system.faults.evidence import changed_since, product_trees, rejudged, unproven
from tests.system.faults.page import Made, page
from tests.system.faults.play import detected
from tests.system.faults.results import (
    PODS,
    RANDOM,
    SIMULATED,
    Kept,
    Result,
    decoded,
    missing,
    record,
    recorded,
)
from tests.system.faults.watch import Seen

TREES: Final = {"api": "1111111111", "operator": "2222222222"}
MADE = Made(datetime(2026, 1, 31, 12, tzinfo=UTC), "Linux x86_64, 2 cores", TREES)
OF: Final = {"trees": TREES, "day": "2026-01-30"}
ALL = {
    (fault.name, phase.value, where): Result(fault.name, phase.value, where, 4.4, **OF)
    for where, cells in ((SIMULATED, CELLS), (PODS, POD_CELLS))
    for fault, phase in cells
}


def test_a_second_call_goes_on_where_the_first_one_was(tmp_path: Path) -> None:
    cells = [("rank killed", "stepping"), ("rank killed", "restarting"), ("rank stopped", "stepping")]
    Kept(TREES, tmp_path).add([Result(*cells[0]), Result(*cells[1], error="too late")])
    known = Kept(TREES, tmp_path).read()
    assert missing(cells, PODS, known, again=False) == [cells[2]]
    assert missing(cells, PODS, known, again=True) == cells[1:]
    assert missing(cells, SIMULATED, known, again=False) == cells
    assert Kept({**TREES, "api": "3333333333"}, tmp_path).read() == {}


def test_the_newest_result_of_a_cell_counts(tmp_path: Path) -> None:
    kept = Kept(TREES, tmp_path)
    kept.add([Result("rank killed", "stepping", error="too late")])
    kept.add([Result("rank killed", "stepping", seconds=1.0)])
    [result] = kept.read().values()
    assert result.green


def test_a_line_of_an_earlier_release_is_of_no_product() -> None:
    [result] = decoded(['{"fault": "rank killed", "phase": "stepping", "said": 0.1, "commit": "0123456789"}'])
    assert changed_since(result, TREES) == ["the product"]


def test_half_a_line_of_a_killed_call_is_passed_over() -> None:
    assert decoded(['{"fault": "rank killed", "phase": "stepping"}', '{"fault": "rank ki']) == [
        Result("rank killed", "stepping")
    ]


def test_a_page_says_what_was_played_when_and_where() -> None:
    text = page(ALL, MADE)
    assert "- 2026-01-31 12:00 UTC, Linux x86_64, 2 cores\n" in text
    assert f"in the simulation: {len(CELLS)} cells, {len(CELLS)} green, 0 red\n" in text
    assert f"on pods: {len(POD_CELLS)} cells, {len(POD_CELLS)} green, 0 red\n" in text
    assert f"| **cells that remain** | {len(CELLS)} | {len(POD_CELLS)} |" in text
    assert "red**" not in text.split("|", 1)[1]


def test_a_cell_has_its_seconds_side_by_side_and_its_causes() -> None:
    cell = ("rank killed", "stepping")
    seen = {
        (*cell, SIMULATED): Result(*cell, SIMULATED, 2.4, **OF),
        (*cell, PODS): Result(*cell, PODS, 1.6, causes=["Communication"], **OF),
    }
    [row] = [line for line in page(ALL | seen, MADE).splitlines() if line.startswith("| rank killed")][:1]
    assert "| 2 / 2 Communication |" in row
    assert row.startswith("| rank killed | – | – |"), "it is nobody's before ranks run"


def test_what_was_played_on_another_product_is_stale() -> None:
    cell = ("rank killed", "stepping")
    old = {
        (*cell, PODS): Result(*cell, PODS, 1.0, trees={**TREES, "operator": "old"}, day="2026-01-31"),
        (*cell, SIMULATED): Result(*cell, SIMULATED, 2.0, day="2026-01-29"),
    }
    histories = {RANDOM: Result(*RANDOM, **OF)}
    text = page(ALL | old | histories, MADE)
    assert (
        "- played 2026-01-31, stale, as operator changed since: 1 on pods\n"
        f"- played 2026-01-30, of today's product: {len(CELLS) - 1} in the simulation, "
        f"{len(POD_CELLS) - 1} on pods, the histories\n"
        "- played 2026-01-29, stale, as the product changed since: 1 in the simulation\n"
    ) in text
    [row] = [line for line in text.splitlines() if line.startswith("| rank killed")][:1]
    assert "| 2* / 1* |" in row
    assert f"on pods: {len(POD_CELLS)} cells, {len(POD_CELLS)} green, 0 red; 1 are stale\n" in text
    assert "5000 random histories of one to four faults in the simulation: green\n" in text
    assert "5000 random histories of one to four faults in the simulation: not played\n" in page(ALL, MADE)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        pytest.param({"seconds": 35.0}, "", id="its-seconds-and-fifteen"),
        pytest.param({"seconds": 35.1}, "back in work after 35.1 s, where 35 is right", id="too-late"),
        pytest.param({"detected": 10.1}, "detected after 10.1 s, where 10 is right", id="detected-too-late"),
        pytest.param({"causes": ["NodeLost"]}, "['NodeLost'] counted", id="another-cause"),
        pytest.param({"seconds": 99.0, "where": SIMULATED}, "", id="of-the-simulation"),
    ],
)
def test_a_recorded_result_is_judged_by_todays_bounds(members: dict[str, Any], error: str) -> None:
    result = rejudged(Result("rank killed", "stepping", **members))
    assert result.green is (not error) and error in result.error


def test_a_release_needs_the_sample_fresh_and_green() -> None:
    cell = ("rank killed", Phase.STEPPING)
    key = ("rank killed", "stepping", PODS)
    fresh = Result(*key, 1.0, **OF)
    assert unproven([cell], {key: fresh}, TREES) == []
    assert unproven([cell], {}, TREES) == ["rank killed, stepping: not played"]
    red = replace(fresh, seconds=99.0)
    assert unproven([cell], {key: red}, TREES)[0].startswith("rank killed, stepping: red: back in work")
    stale = replace(fresh, trees={**TREES, "operator": "old"})
    said = ["rank killed, stepping: stale, as operator changed since"]
    assert unproven([cell], {key: stale}, TREES) == said


def test_product_trees_are_those_of_the_files_committed_or_not(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
        command = ["git", *identity, *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for name in ("api", "operator", "docs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "All")
    first = product_trees(tmp_path, ["api", "operator"])
    assert first == {name: git("rev-parse", f"HEAD:{name}")[:10] for name in ("api", "operator")}

    (tmp_path / "docs" / "file").write_text("other")
    (tmp_path / "api" / "new").write_text("new")
    changed = product_trees(tmp_path, ["api", "operator"])
    assert changed["operator"] == first["operator"] and changed["api"] != first["api"]
    assert git("status", "--porcelain").split() == ["M", "docs/file", "??", "api/new"]

    git("add", ".")
    git("commit", "--quiet", "--message", "More")
    assert product_trees(tmp_path, ["api", "operator"]) == changed


def test_detection_counts_from_the_fault() -> None:
    before, after = {"failures": {"Hang": 1}}, {"failures": {"Hang": 1, "NodeLost": 1}}
    history = [Seen(99.0, after), Seen(100.5, before), Seen(103.0, after), Seen(104.0, after)]
    assert detected(history[1:], 100.0, {"Hang": 1}) == 3.0
    assert detected(history[:2], 100.0, {"Hang": 1}) is None


def test_what_the_page_is_made_of_is_recorded_beside_it(tmp_path: Path) -> None:
    kept = Kept(TREES, tmp_path)
    kept.add([Result("rank killed", "stepping", error="too late\nand much more")])
    [result] = kept.read().values()
    assert (result.trees, len(result.day)) == (TREES, len("2026-01-31"))
    (tmp_path / "docs").mkdir()
    assert recorded(tmp_path) == {}
    record([result], tmp_path)
    assert recorded(tmp_path) == {result.key: replace(result, error="too late")}


def test_what_is_red_or_was_not_played_is_not_hidden() -> None:
    cell = ("rank killed", "stepping")
    red = {(*cell, PODS): Result(*cell, PODS, error="AssertionError: step 14\nand much more")}
    rest = {key: result for key, result in ALL.items() if key != ("slow rank", "stepping", PODS)}
    text = page(rest | red, MADE)
    assert f"on pods: {len(POD_CELLS)} cells, {len(POD_CELLS) - 2} green, 1 red, 1 not played" in text
    assert "- rank killed, stepping, pods: AssertionError: step 14\n" in text
    assert "and much more" not in text
