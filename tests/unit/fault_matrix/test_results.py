"""Results are kept by commit and cell, and the page is made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.support.matrix import CELLS, POD_CELLS
from tests.system.faults.page import Made, page
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

MADE = Made(datetime(2026, 1, 31, 12, tzinfo=UTC), "Linux x86_64, 2 cores", 30.0)
OF: Final = {"commit": "0123456789", "day": "2026-01-30"}
ALL = {
    (fault.name, phase.value, where): Result(fault.name, phase.value, where, 4.4, **OF)
    for where, cells in ((SIMULATED, CELLS), (PODS, POD_CELLS))
    for fault, phase in cells
}


def test_a_second_call_goes_on_where_the_first_one_was(tmp_path: Path) -> None:
    cells = [("rank killed", "stepping"), ("rank killed", "restarting"), ("rank stopped", "stepping")]
    Kept("tree", tmp_path).add([Result(*cells[0]), Result(*cells[1], error="too late")])
    known = Kept("tree", tmp_path).read()
    assert missing(cells, PODS, known, again=False) == [cells[2]]
    assert missing(cells, PODS, known, again=True) == cells[1:]
    assert missing(cells, SIMULATED, known, again=False) == cells
    assert Kept("another tree", tmp_path).read() == {}


def test_the_newest_result_of_a_cell_counts(tmp_path: Path) -> None:
    kept = Kept("tree", tmp_path)
    kept.add([Result("rank killed", "stepping", error="too late")])
    kept.add([Result("rank killed", "stepping", seconds=1.0)])
    [result] = kept.read().values()
    assert result.green


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
        (*cell, SIMULATED): Result(*cell, SIMULATED, 2.4),
        (*cell, PODS): Result(*cell, PODS, 1.6, causes=["Communication"]),
    }
    [row] = [line for line in page(ALL | seen, MADE).splitlines() if line.startswith("| rank killed")][:1]
    assert "| 2 / 2 Communication |" in row
    assert row.startswith("| rank killed | – | – |"), "it is nobody's before ranks run"


def test_what_was_played_on_other_commits_is_told_apart() -> None:
    cell = ("rank killed", "stepping", PODS)
    later = {cell: Result(*cell, 1.0, commit="9876543210", day="2026-01-31")}
    histories = {RANDOM: Result(*RANDOM, commit="0123456789", day="2026-01-30")}
    text = page(ALL | later | histories, MADE)
    assert (
        "- played 2026-01-31 on commit 9876543210: 1 on pods\n"
        f"- played 2026-01-30 on commit 0123456789: {len(CELLS)} in the simulation, "
        f"{len(POD_CELLS) - 1} on pods, the histories\n"
    ) in text
    assert "5000 random histories of one to four faults in the simulation: green\n" in text
    assert "5000 random histories of one to four faults in the simulation: not played\n" in page(ALL, MADE)


def test_what_the_page_is_made_of_is_recorded_beside_it(tmp_path: Path) -> None:
    kept = Kept("tree", tmp_path)
    kept.add([Result("rank killed", "stepping", error="too late\nand much more")])
    [result] = kept.read().values()
    assert (result.commit, len(result.day)) == ("tree", len("2026-01-31"))
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
