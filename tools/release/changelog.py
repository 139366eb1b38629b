"""CHANGELOG.md as sections: the releases it has, the notes of one, and the cut of a new one. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from tools.release.errors import ReleaseError
from tools.release.versions import Version

UNRELEASED: Final = "## Unreleased"
_HEADING: Final = re.compile(r"^## (?P<title>.+)$", re.M)
_LINK: Final = re.compile(r"\[([^]]+)\]\((?!https?:)[^)]+\)")  # into the checkout
_FINISHED: Final = re.compile(r"(?P<version>\S+) - (?P<day>\d{4}-\d\d-\d\d)")


@dataclass(frozen=True)
class Section:
    """What stands below one heading of the second level."""

    title: str
    body: str

    @property
    def version(self) -> Version | None:
        """The release that it tells of; None of "Unreleased".

        Raises:
            ReleaseError: the title is of neither form.
        """
        if f"## {self.title}" == UNRELEASED:
            return None
        found = _FINISHED.fullmatch(self.title)
        if not found:
            raise ReleaseError(f"CHANGELOG.md has a section {self.title!r}: write it as x.y.z - YYYY-MM-DD")
        return Version.parse(found["version"])


def sections(text: str) -> list[Section]:
    """All of them, in their order."""
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return [
        Section(heading["title"], text[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    ]


def released(text: str) -> list[Version]:
    """The releases that have a section."""
    return [section.version for section in sections(text) if section.version is not None]


def notes(text: str, version: Version) -> str:
    """What the changelog says of a release, its heading first; links that need the checkout are plain text.

    Raises:
        ReleaseError: nothing.
    """
    for section in sections(text):
        if section.version == version:
            body = _LINK.sub(r"\1", section.body).replace("\n### ", "\n## ").removeprefix("#")
            return f"# Footplate {section.title}\n\n{body}\n"
    raise ReleaseError(f"CHANGELOG.md has no section of {version}")


def cut(text: str, version: Version, day: date) -> str:
    """The changelog after a release: what was unreleased is the release's, and nothing is unreleased.

    Raises:
        ReleaseError: there is nothing to release.
    """
    unreleased = [section for section in sections(text) if section.version is None]
    if len(unreleased) != 1 or not unreleased[0].body:
        raise ReleaseError(
            f"CHANGELOG.md has no section {UNRELEASED!r} with something in it: "
            f"say there what {version} changes"
        )
    return text.replace(f"{UNRELEASED}\n", f"{UNRELEASED}\n\n## {version} - {day.isoformat()}\n", 1)
