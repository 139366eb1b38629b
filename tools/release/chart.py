"""The chart of a release: values that name images by digest, and the archive that Helm installs from."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from tools.release.errors import ReleaseError

_ROW: Final = r'(repository: footplate/{image}\b.*?digest: )""'
REPOSITORY: Final = "footplate/{image}"


def with_digests(values: str, digests: Mapping[str, str]) -> str:
    """values.yaml with the digest of each image beside its repository; comments and order stay.

    Raises:
        ReleaseError: an image has no row there, or one has no digest.
    """
    text = values
    for image, digest in digests.items():
        text = re.sub(_ROW.format(image=re.escape(image)), rf'\g<1>"{digest}"', text, flags=re.S, count=1)
    expected = {REPOSITORY.format(image=image): digest for image, digest in digests.items()}
    found = _images(yaml.safe_load(text))
    if found != expected:
        raise ReleaseError(f"values.yaml names the images {found}; of this release they are {expected}")
    return text


def _images(values: Any) -> dict[str, str]:
    """Repository -> digest of every image among the values."""
    if not isinstance(values, dict):
        return {}
    found = {values["repository"]: values["digest"]} if {"repository", "digest"} <= values.keys() else {}
    for value in values.values():
        found |= _images(value)
    return found


def packed(folder: Path, values: str, seconds: int) -> bytes:
    """The folder of a chart as Helm's archive, its values.yaml replaced; the same bytes every time.

    Helm's own `package` writes the time of its call into the archive. All files get the time `seconds`.
    """
    contents = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    contents["values.yaml"] = values.encode()
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=seconds) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        # Helm asks for the chart's description first.
        for name in sorted(contents, key=lambda name: (name != "Chart.yaml", name)):
            entry = tarfile.TarInfo(f"{folder.name}/{name}")
            entry.size, entry.mode, entry.mtime = len(contents[name]), 0o644, seconds
            archive.addfile(entry, io.BytesIO(contents[name]))
    return buffer.getvalue()
