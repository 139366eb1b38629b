"""The version, which stands in the file VERSION alone: what it may be, and the files that repeat it.

Each image is built from the folders of its own distributions, so their pyproject.toml say the version
themselves; `make gen` writes it there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tools.release.errors import ReleaseError

FILE: Final = "VERSION"
CHART: Final = "charts/footplate/Chart.yaml"
# No build metadata: neither an image's tag nor a label of Kubernetes may have its "+".
_FORM: Final = re.compile(
    r"(?P<major>0|[1-9]\d*)\.(?P<minor>0|[1-9]\d*)\.(?P<patch>0|[1-9]\d*)(-rc\.(?P<candidate>[1-9]\d*))?"
)
_FINAL: Final = float("inf")  # a release comes after all of its candidates


@dataclass(frozen=True, order=True)
class Version:
    """A semantic version of a form that Python's packages and Helm read alike."""

    major: int
    minor: int
    patch: int
    candidate: float = _FINAL

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version that `text` is.

        Raises:
            ReleaseError: it is none.
        """
        found = _FORM.fullmatch(text)
        if not found:
            raise ReleaseError(f"VERSION={text!r} is no version: say x.y.z or x.y.z-rc.n, such as 0.2.0")
        candidate = found["candidate"]
        major, minor, patch = (int(found[name]) for name in ("major", "minor", "patch"))
        return cls(major, minor, patch, int(candidate) if candidate else _FINAL)

    def __str__(self) -> str:
        number = f"{self.major}.{self.minor}.{self.patch}"
        return number if self.candidate == _FINAL else f"{number}-rc.{self.candidate}"


def next_release(wanted: Version, present: Version, released: Sequence[Version]) -> Version:
    """`wanted`, where it may follow what the file says and what was released.

    The version that the file says may be released as long as the changelog has no section of it.

    Raises:
        ReleaseError: it may not.
    """
    newest = max(released, default=None)
    if newest is not None and wanted <= newest:
        said = "is a release already" if wanted in released else f"comes before the newest release, {newest}"
        raise ReleaseError(f"VERSION={wanted} {said}: choose one above {newest}")
    if wanted < present:
        raise ReleaseError(
            f"VERSION={wanted} is below {present} of the file {FILE}: choose that or a later one"
        )
    return wanted


def _replaced(path: str, text: str, field: str, line: str) -> str:
    pattern = re.compile(rf"^{field}[ :=].*$", re.M)
    if len(pattern.findall(text)) != 1:
        raise ReleaseError(f"{path} has no line, or several, that begin with {field}: it should have one")
    return pattern.sub(line, text)


def repeated(version: Version, files: Mapping[str, str]) -> dict[str, str]:
    """The texts of pyproject.toml files and of Chart.yaml, by path, with the version in its place.

    Raises:
        ReleaseError: a file has no such place.
    """
    found = {}
    for path, text in files.items():
        if path == CHART:
            whole = _replaced(path, text, "version", f"version: {version}")
            found[path] = _replaced(path, whole, "appVersion", f'appVersion: "{version}"')
        else:
            found[path] = _replaced(path, text, "version", f'version = "{version}"')
    return found


def distributions(root: Path) -> list[Path]:
    """The folders of our own distributions, which have a pyproject.toml each."""
    return sorted(path.parent for path in root.glob("*/pyproject.toml"))


def present(root: Path) -> Version:
    """The version of a tree."""
    return Version.parse((root / FILE).read_text().strip())


def generated(root: Path) -> dict[Path, str]:
    """The packages' files and the chart's, which repeat what VERSION of the tree says, and their texts."""
    version = present(root)
    paths = [CHART, *(f"{folder.name}/pyproject.toml" for folder in distributions(root))]
    texts = repeated(version, {path: (root / path).read_text() for path in paths})
    return {root / path: text for path, text in texts.items()}
