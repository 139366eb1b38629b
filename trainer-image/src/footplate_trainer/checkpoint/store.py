"""The checkpoint folder: lists, commits and removes step directories.

All names and markers are read and written here; step.py reads the contents of one directory, and folder.py
accesses the storage. Storage failures of the functions below become StorageError, which distinguishes a full
volume from other failures.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.folder import BucketFolder, Folder, LocalFolder, ReadFolder, open_folder
from footplate_trainer.checkpoint.layout import (
    MANIFEST_FILE,
    CheckpointFile,
    CheckpointRetention,
    CommitMarker,
    GenerationStart,
    Manifest,
    StepDirectory,
    committed_directory,
)
from footplate_trainer.errors import StorageError
from footplate_trainer.failure_reports import exception_chain
from footplate_trainer.node_cache import CachedCopy, RemoteFile, fetch, key_of, settings_from
from footplate_trainer.storage import OBJECT_STORES, FsspecStorage, is_local, join, open_storage


def open_source(uri: str) -> ReadFolder:
    """Open checkpoints at any URI without connecting; ValueError for a URI of an unsupported scheme."""
    if is_local(uri):
        return LocalFolder(uri)
    if urlsplit(uri).scheme in OBJECT_STORES:
        return BucketFolder(uri)
    return FsspecFolder(uri)


class FsspecFolder(FsspecStorage):
    """Checkpoint folder on any file system of fsspec, for reading only.

    It may lack ranges, like many web servers: a file is copied to the node, once for all of its ranks, and
    compared with its checksum. See docs/decisions/ADR-0037-read-from-anywhere.md.
    """

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


Markers = Mapping[int, CommitMarker | None]
"""Commit markers by step; None: a torn one."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class CheckpointSource:
    """A read-only folder of checkpoints. Methods raise OSError when storage fails."""

    folder: ReadFolder

    def __init__(self, uri: str | Path) -> None:
        """Open `uri`; ValueError for a URI of an unsupported scheme."""
        self.uri = str(uri)
        self.folder = self._open()

    def _open(self) -> ReadFolder:
        return open_source(self.uri)

    def directory_uri(self, directory: str) -> str:
        """Return the path or URI of a directory for messages."""
        return join(self.uri, directory)

    def steps(self) -> list[int]:
        """List the steps that have a commit marker, newest first."""
        found = (layout.marker_step(name) for name in self.folder.names())
        return sorted((step for step in found if step is not None), reverse=True)

    def directories(self) -> list[StepDirectory]:
        """List all step directories, committed or not."""
        found = (StepDirectory.parse(name) for name in self.folder.names())
        return [directory for directory in found if directory is not None]

    def marker(self, step: int) -> CommitMarker | None:
        """Read the commit marker of `step`; None when there is none or it is torn."""
        try:
            return CommitMarker.from_json(json.loads(self.folder.read(layout.marker_name(step))))
        except (FileNotFoundError, ValueError):  # pydantic's ValidationError is a ValueError
            return None


class CheckpointStore(CheckpointSource):
    """A run's writable checkpoint folder at a path, file:// or s3:// URI; ValueError for any other."""

    folder: Folder

    def _open(self) -> Folder:
        return open_folder(self.uri)

    def create(self) -> None:
        """Create the folder; StorageError when it cannot be written."""
        with storage_errors(f"checkpoint folder {self.uri}"):
            self.folder.prepare()

    def commit(self, marker: CommitMarker) -> bool:
        """Create the marker of a step that has none; False when another generation was first."""
        content = json.dumps(marker.to_json()).encode()
        # A bucket may have done it, and say no when the answer was lost and it is asked again.
        return (
            self.folder.create(layout.marker_name(marker.step), content) or self.marker(marker.step) == marker
        )

    def revoke(self, step: int) -> None:
        """Delete the marker of `step`, so that the step can be committed again."""
        self.folder.delete(layout.marker_name(step))

    def discard(self, directory: StepDirectory) -> None:
        """Remove a directory and its contents, if it exists."""
        self.folder.remove(directory.name)

    def list_generation_starts(self, run: str) -> list[GenerationStart]:
        """List the start records of the generations of the run with the uid `run` that are still needed."""
        return [begun for begun in self._all_begun() if begun.run == run]

    def record_generation_start(self, latest: GenerationStart) -> None:
        """Write the start record `latest` and delete the records that it supersedes."""
        self.folder.create(latest.name, b"")
        for begun in layout.find_superseded(latest, self._all_begun()):
            self.folder.delete(begun.name)

    def markers(self) -> Markers:
        """Return the commit marker of each step that has one, newest first."""
        return {step: self.marker(step) for step in self.steps()}

    def apply_retention(
        self,
        markers: Markers,
        retention: CheckpointRetention,
        writing: GenerationId,
        removed: Callable[[StepDirectory], None],
    ) -> None:
        """Remove the `markers` that `retention` does not need, then unneeded directories and start records.

        Calls `removed` for each checkpoint whose marker is gone: from then on the checkpoint does not exist.
        """
        kept = retention.select_steps(marker for marker in markers.values() if marker)
        for step in sorted(markers.keys() - kept):
            self.revoke(step)
            if gone := committed_directory(markers[step]):
                removed(gone)
        needed = [directory for step in kept if (directory := committed_directory(markers[step]))]
        for directory in layout.removable_directories(self.directories(), needed, writing):
            self.discard(directory)
        for begun in layout.find_outdated(
            self._all_begun(), min(sorted(kept)[-retention.keep_last :], default=0)
        ):
            self.folder.delete(begun.name)

    def _all_begun(self) -> list[GenerationStart]:
        return [begun for name in self.folder.names() if (begun := GenerationStart.parse(name))]

    def write(self, directory: str, file: str, content: bytes) -> CheckpointFile:
        """Write a small file of a directory durably; return its size and checksum."""
        with self.folder.open_write(f"{directory}/{file}") as stream:
            stream.write(content)
        return CheckpointFile(file=file, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def is_volume_full(error: BaseException) -> bool:
    """Return whether `error`, or one of its causes, reports a full volume."""
    return any(isinstance(seen, OSError) and seen.errno in _FULL for seen in exception_chain(error))


@contextmanager
def storage_errors(what: str, step: int | None = None) -> Iterator[None]:
    """Turn OSError into a StorageError about `what`, with the checkpoint's `step` if given."""
    try:
        yield
    except OSError as error:
        who = f" to uid {os.geteuid()}, gid {os.getegid()}" if isinstance(error, PermissionError) else ""
        said = f"{what}: {error.strerror or error}{who}"
        raise StorageError(said, full=is_volume_full(error), step=step) from error
