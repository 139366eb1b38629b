"""Read-only checkpoints: another run's, or those that the user names.

Writing needs an exclusive "create", which few stores have (folder.py); reading does not. From a bucket of any
object store, ranks read the ranges that they need. Other storage that fsspec supports may lack ranges, like
many web servers: its files are copied to the node, once for all of its ranks, and each is compared with its
checksum as it arrives. See docs/decisions/ADR-0037-read-from-anywhere.md.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from pydantic import ValidationError

from footplate_trainer.checkpoint.folder import BucketFolder, LocalFolder, ReadFolder
from footplate_trainer.checkpoint.layout import MANIFEST_FILE, Manifest
from footplate_trainer.node_cache import CachedCopy, RemoteFile, fetch, key_of, settings_from
from footplate_trainer.storage import OBJECT_STORES, FsspecStorage, is_local, open_storage


def open_source(uri: str) -> ReadFolder:
    """Open checkpoints at any URI without connecting; ValueError for a URI of an unsupported scheme."""
    if is_local(uri):
        return LocalFolder(uri)
    if urlsplit(uri).scheme in OBJECT_STORES:
        return BucketFolder(uri)
    return FsspecFolder(uri)


class FsspecFolder(FsspecStorage):
    """Checkpoint folder on any file system of fsspec; copies a file to this node before opening it."""

    def __init__(self, uri: str, environment: Mapping[str, str] = os.environ) -> None:
        """Open `uri`; ValueError for an unsupported scheme."""
        super().__init__(uri)
        self._environment = environment
        self._copies: dict[str, CachedCopy] = {}  # by directory: in use as long as this object lives

    @contextmanager
    def open_read(self, name: str) -> Iterator[io.BufferedReader]:
        """Open a copy of a step directory's file; CopyDiffers if the copy does not match its manifest."""
        directory, _, file = name.partition("/")
        if "/" in file:  # small, and a copy has no folders in it
            yield io.BufferedReader(io.BytesIO(self.read(name)))
            return
        text = self.read(f"{directory}/{MANIFEST_FILE}")
        copy = fetch(
            open_storage(f"{self.uri.rstrip('/')}/{directory}"),
            key_of(text),
            [_recorded(text, file) or RemoteFile(file, self.size(name))],
            settings_from(self._environment),
            int(self._environment.get("LOCAL_RANK", "0")),
            known={MANIFEST_FILE: text},
        )
        self._copies[directory] = copy
        with (copy.folder / file).open("rb") as stream:
            yield stream


def _recorded(text: bytes, file: str) -> RemoteFile | None:
    """Return the manifest's record of `file`; None for a file that it does not name, or a torn manifest."""
    try:
        records = Manifest.model_validate_json(text, extra="ignore").files
    except (
        ValidationError
    ):  # whoever reads a checkpoint has read its manifest, and says what is wrong with it
        return None
    return next(
        (RemoteFile(record.file, record.bytes, record.sha256) for record in records if record.file == file),
        None,
    )
