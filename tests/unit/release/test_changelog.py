"""The changelog's sections, and what a release makes of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from tools.release import changelog
from tools.release.errors import ReleaseError
from tools.release.versions import Version

HEAD = "# Changelog\n\nOf everything.\n\n"
NEW = "### Added\n\n- A thing ([more](docs/a.md)), [here](https://example.com).\n\n### Fixed\n\n- That.\n"
OLD = "## 0.1.0 - 2026-01-02\n\n### Added\n\n- The first.\n"
TEXT = f"{HEAD}## Unreleased\n\n{NEW}\n{OLD}"
DAY = date(2026, 12, 1)


def test_what_was_unreleased_is_the_releases() -> None:
    after = changelog.cut(TEXT, Version(0, 2, 0), DAY)
    assert after == f"{HEAD}## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n{NEW}\n{OLD}"
    assert changelog.released(after) == [Version(0, 2, 0), Version(0, 1, 0)]


def test_notes_are_the_section_of_the_release_alone() -> None:
    after = changelog.cut(TEXT, Version(0, 2, 0), DAY)
    assert changelog.notes(after, Version(0, 2, 0)) == (
        "# Footplate 0.2.0 - 2026-12-01\n\n"
        "## Added\n\n- A thing (more), [here](https://example.com).\n\n## Fixed\n\n- That.\n"
    )
    assert "The first" in changelog.notes(after, Version(0, 1, 0))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{HEAD}{OLD}", id="no-section"),
        pytest.param(f"{HEAD}## Unreleased\n\n{OLD}", id="empty"),
    ],
)
def test_nothing_new_is_no_release(text: str) -> None:
    with pytest.raises(
        ReleaseError, match=r"no section '## Unreleased' with something in it: say there what 0\.2\.0"
    ):
        changelog.cut(text, Version(0, 2, 0), DAY)


def test_a_section_of_neither_form_is_named() -> None:
    with pytest.raises(ReleaseError, match=r"a section '0\.2\.0': write it as x\.y\.z - YYYY-MM-DD"):
        changelog.released(f"{HEAD}## 0.2.0\n\nOld.\n")


def test_a_release_without_section_has_no_notes() -> None:
    with pytest.raises(ReleaseError, match=r"no section of 9\.0\.0"):
        changelog.notes(TEXT, Version(9, 0, 0))


def test_the_projects_own_is_of_that_form() -> None:
    text = (Path(__file__).resolve().parents[3] / "CHANGELOG.md").read_text()
    assert sum(section.version is None for section in changelog.sections(text)) == 1
