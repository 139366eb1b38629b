"""What images there are, and when two of them are the same: pure, but for reading the files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cluster import keys
from cluster.errors import ClusterError
from cluster.paths import REPO

REPOSITORY = "localhost/footplate"
TAG = "dev"
# One time for all files of a build: layers are cached by it too, and a fresh clone is no change.
FILE_TIME = 1_577_836_800  # 2020-01-01, which zip, and so wheels, can express
_SKIPPED = {"__pycache__", ".git", ".venv"}


@dataclass(frozen=True)
class Image:
    """One row of images.toml."""

    name: str
    dockerfile: str
    context: tuple[str, ...]
    target: str | None = None
    arguments: tuple[tuple[str, str], ...] = field(default=())

    def tagged(self, tag: str) -> str:
        """The name that pods use."""
        return f"{REPOSITORY}/{self.name}:{tag}"

    def keyed(self, key: str) -> str:
        """The name of this content, in the builder's store."""
        return f"{REPOSITORY}/{self.name}:{key}"


def _row(name: str, row: dict[str, Any]) -> Image:
    unknown = row.keys() - {"dockerfile", "context", "target", "arguments"}
    if unknown:
        raise ClusterError(f"images.toml: [{name}] has unknown {', '.join(sorted(unknown))}")
    for required in ("dockerfile", "context"):
        if required not in row:
            raise ClusterError(f"images.toml: [{name}] lacks `{required}`")
    arguments = tuple(sorted((str(key), str(value)) for key, value in row.get("arguments", {}).items()))
    return Image(name, row["dockerfile"], tuple(row["context"]), row.get("target"), arguments)


def parse(text: str) -> list[Image]:
    """The images in the text of images.toml.

    Raises:
        ClusterError: naming the row and the field that is wrong.
    """
    return [_row(name, row) for name, row in tomllib.loads(text).items()]


@dataclass(frozen=True)
class Sources:
    """What images are built from, and the tag that pods find them by: this checkout, or another release's."""

    folder: Path = REPO
    tag: str = TAG

    def images(self) -> list[Image]:
        """Its images; ClusterError where the folder is none of this project."""
        table = self.folder / "dev" / "cluster" / "images" / "images.toml"
        if not table.is_file():
            raise ClusterError(f"{self.folder} is no checkout of this project: it has no {table.name}")
        return parse(table.read_text())


HERE = Sources()


def _tracked(repo: Path, paths: Iterable[str]) -> list[str] | None:
    """Files that git knows, or would; None where git cannot say."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    try:
        listed = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [name for name in listed.stdout.split("\0") if name]


def _walked(repo: Path, paths: Iterable[str]) -> list[str]:
    found: list[str] = []
    for path in paths:
        if (repo / path).is_file():
            found.append(path)
        for folder, folders, files in os.walk(repo / path):
            folders[:] = [name for name in folders if name not in _SKIPPED]
            relative = PurePosixPath(Path(folder).relative_to(repo))
            found.extend(str(relative / file) for file in files)
    return found


def context_files(image: Image, repo: Path) -> list[str]:
    """The files an image is built from, relative to the repository."""
    paths = (image.dockerfile, *image.context)
    listed = _tracked(repo, paths)
    names = _walked(repo, paths) if listed is None else listed
    return sorted({name for name in names if (repo / name).is_file() or (repo / name).is_symlink()})


def image_key(image: Image, parts: list[tuple[str, bytes]], base: str) -> str:
    """The content key of an image; ``parts`` are its files, ``base`` names what it builds on."""
    recipe = repr((image.dockerfile, image.target, image.arguments, base))
    return keys.content_key([("recipe", recipe.encode()), *parts])


def key_of(image: Image, repo: Path, base: str) -> str:
    return image_key(image, keys.file_parts(repo, context_files(image, repo)), base)


def export_context(image: Image, repo: Path, target: Path, base: str) -> str:
    """Copies exactly the keyed files: a build cannot depend on anything its key leaves out.

    Returns the key of the copy: somebody may have edited a file since another key was taken.
    """
    names = context_files(image, repo)
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repo / name, copy, follow_symlinks=False)
    for folder, folders, files in os.walk(target):
        for name in (*folders, *files):
            os.utime(Path(folder) / name, (FILE_TIME, FILE_TIME), follow_symlinks=False)
    return image_key(image, keys.file_parts(target, names), base)
