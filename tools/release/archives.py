"""Reads images from OCI archives: a tar of blobs, one of them the manifest that the image's digest is of."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tools.release.errors import ReleaseError

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"


@dataclass(frozen=True)
class ImageArchive:
    """What is known of an archive without its layers' data."""

    path: Path
    digest: str  # of the manifest: by it a registry knows the image
    layers: tuple[str, ...]  # the blobs of the layers within the archive, from the lowest up
    config: dict[str, Any]


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _document(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise ReleaseError(f"{archive.name!s} is no OCI archive: it has no {name}")
    document: dict[str, Any] = json.loads(file.read())
    return document


def read(path: Path) -> ImageArchive:
    """The one image of an archive.

    Raises:
        ReleaseError: it is no OCI archive, or has several images.
    """
    with tarfile.open(path) as archive:
        found = _document(archive, "index.json")["manifests"]
        if len(found) != 1:
            raise ReleaseError(f"{path} has {len(found)} images: a release's archive has one")
        digest = found[0]["digest"]
        manifest = _document(archive, _blob(digest))
        layers = tuple(_blob(layer["digest"]) for layer in manifest["layers"])
        return ImageArchive(path, digest, layers, _document(archive, _blob(manifest["config"]["digest"])))


def files(image: ImageArchive, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Texts of the regular files of the image that are wanted, by their paths without a leading slash.

    Each layer is read once, from its beginning to its end: seconds for a gigabyte.
    """
    found: dict[str, str] = {}
    with tarfile.open(image.path) as archive:
        for layer in image.layers:
            blob = archive.extractfile(layer)
            if blob is None:
                raise ReleaseError(f"{image.path} lacks {layer}")
            with tarfile.open(fileobj=blob, mode="r|*") as packed:
                added, gone = _layer(packed, wanted)
            found = {path: text for path, text in found.items() if not _covered(path, gone)} | added
    return found


def _layer(packed: tarfile.TarFile, wanted: Callable[[str], bool]) -> tuple[dict[str, str], set[str]]:
    """The wanted files of a layer, and the paths below which it takes away what lies in layers below it."""
    added: dict[str, str] = {}
    gone: set[str] = set()
    for member in packed:
        path = PurePosixPath(member.name.lstrip("/").removeprefix("./"))
        if path.name == _OPAQUE:
            gone.add(str(path.parent))
        elif path.name.startswith(_WHITEOUT):
            gone.add(str(path.with_name(path.name.removeprefix(_WHITEOUT))))
        elif not member.isdir():
            gone.add(str(path))  # whatever it is, it stands in the place of what lies below
            if member.isfile() and wanted(str(path)) and (content := packed.extractfile(member)):
                added[str(path)] = content.read().decode(errors="replace")
    return added, gone


def _covered(path: str, gone: set[str]) -> bool:
    return path in gone or any(str(parent) in gone for parent in PurePosixPath(path).parents)
