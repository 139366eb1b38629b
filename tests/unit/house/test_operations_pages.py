"""Each cause and each reason has its place in the pages for who runs Footplate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from footplate_contracts.names import Cause, Reason

PAGES = Path("docs/operations")
PARTS = ("**Means**", "**Footplate**", "**Look**", "**Do**")


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_says_what_to_do(cause: Cause) -> None:
    sections = re.split(r"^## ", (PAGES / "causes.md").read_text(), flags=re.MULTILINE)
    [section] = [text for text in sections if text.startswith(f"{cause.value}\n")]
    assert [part for part in PARTS if part not in section] == []


def test_each_reason_has_its_row_once() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", (PAGES / "conditions.md").read_text(), flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    # One cause is the reason of a condition, too.
    assert sorted(named) == sorted([*(reason.value for reason in Reason), Cause.NO_PROGRESS.value])


def test_the_pages_link_to_sections_that_are_there() -> None:
    anchors = {cause.value.lower() for cause in Cause}
    linked = set(re.findall(r"causes\.md#(\w+)", (PAGES / "conditions.md").read_text()))
    assert linked <= anchors
