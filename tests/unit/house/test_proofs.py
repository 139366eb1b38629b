"""Verbs that nobody runs by chance leave a line that says what they proved."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest
from tools import proof

ROOT: Final = Path(__file__).resolve().parents[3]
MAKEFILE: Final = (ROOT / "Makefile").read_text()
[_LISTED] = re.findall(r"^MANUAL := (.+)$", MAKEFILE, re.M)
MANUAL: Final = _LISTED.split()


@pytest.mark.parametrize(
    ("program", "status", "result", "said"),
    [
        pytest.param("print('one'); print('33 green, 0 red')", 0, "passed", "33 green, 0 red", id="passed"),
        pytest.param("print('1 red'); raise SystemExit(7)", 7, "failed", "1 red", id="failed"),
        pytest.param("import os; os.kill(os.getpid(), 9)", 137, "failed", "", id="killed"),
    ],
)
def test_a_command_leaves_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, status: int, result: str, said: str
) -> None:
    for _ in range(2):
        assert proof.main(["faults", sys.executable, "-c", program], tmp_path) == status

    lines = [json.loads(line) for line in (tmp_path / proof.FILE).read_text().splitlines()]
    assert len(lines) == 2
    assert (lines[1]["verb"], lines[1]["result"], lines[1]["status"]) == ("faults", result, status)
    assert lines[1]["said"] == said and said in capsys.readouterr().out
    assert lines[1]["cores"] >= 1 and lines[1]["memory"] > 0.1 and lines[1]["seconds"] >= 0
    assert (lines[1]["commit"], lines[1]["changed"]) == ("", False), "no repository is there"


def test_the_commit_is_this_checkouts() -> None:
    found, _ = proof.commit(ROOT)
    assert re.fullmatch(r"[0-9a-f]{10}|", found)


@pytest.mark.parametrize("verb", MANUAL)
def test_each_manual_verb_is_recorded(verb: str) -> None:
    [recipe] = re.findall(rf"^{verb}:[^\n]*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert f"$(PROOF) {verb} " in recipe
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"| `make {verb}" in page


def test_the_manual_verbs_are_those_that_the_rest_does_not_run() -> None:
    assert {"faults", "faults-sample", "chaos", "upgrade-day", "air-gap", "test-long"} <= set(MANUAL)


def test_the_record_is_whole() -> None:
    file = ROOT / proof.FILE
    lines = file.read_text().splitlines() if file.exists() else []
    members = [member.name for member in fields(proof.Proof)]
    assert all(list(json.loads(line)) == members for line in lines)
