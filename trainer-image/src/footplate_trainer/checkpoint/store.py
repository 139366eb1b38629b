"""The checkpoint folder on a file system: what is there, what is whole, what counts.

All reading and writing of names, markers and manifests goes through here; the
tensors themselves are written by torch. Errors of the file system come out as
StorageError, which tells a full volume from the rest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.layout import CommitMarker, FileRecord, Manifest, StepDirectory
from footplate_trainer.errors import StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointStore:
    """One run's checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder; StorageError when it cannot be written."""
        with storage_errors(f"checkpoint folder {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "no permission to write", str(self.folder))

    def steps(self) -> list[int]:
        """Steps that have a commit marker, newest first."""
        found = (layout.marker_step(name) for name in self._names())
        return sorted((step for step in found if step is not None), reverse=True)

    def directories(self) -> list[StepDirectory]:
        """All step directories, committed or not."""
        found = (StepDirectory.parse(name) for name in self._names())
        return [directory for directory in found if directory is not None]

    def marker(self, step: int) -> CommitMarker | None:
        """The commit marker of `step`; None when there is none or it was never finished."""
        try:
            text = (self.folder / layout.marker_name(step)).read_text()
            return CommitMarker.from_json(json.loads(text))
        except (FileNotFoundError, ValidationError, ValueError):
            return None

    def commit(self, marker: CommitMarker) -> bool:
        """Create the marker of a step that has none; False when another generation was first."""
        path = self.folder / layout.marker_name(marker.step)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump(marker.to_json(), file)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self.folder)
        return True

    def revoke(self, step: int) -> None:
        """Take the marker of `step` away, so that the step can be committed again."""
        (self.folder / layout.marker_name(step)).unlink(missing_ok=True)
        sync_directory(self.folder)

    def discard(self, directory: StepDirectory) -> None:
        """Remove a directory and all in it, if it is there."""
        shutil.rmtree(self.folder / directory.name, ignore_errors=True)

    def retain(self, keep_last: int, keep_every: int | None, writing: GenerationId) -> None:
        """Remove what retention no longer needs; markers go before their directories."""
        steps = self.steps()
        kept = layout.retained_steps(steps, keep_last, keep_every)
        for step in steps:
            if step not in kept:
                self.revoke(step)
        markers = [self.marker(step) for step in kept]
        needed = [StepDirectory.parse(marker.directory) for marker in markers if marker]
        for directory in layout.removable_directories(
            self.directories(), [one for one in needed if one], writing
        ):
            self.discard(directory)

    def manifest(self, directory: str) -> Manifest:
        """The manifest of a directory; ValueError when it is missing or torn."""
        try:
            return Manifest.from_json(
                json.loads((self.folder / directory / layout.MANIFEST_FILE).read_text())
            )
        except FileNotFoundError:
            raise ValueError(f"{directory}/{layout.MANIFEST_FILE} is missing") from None
        except ValueError as error:  # ValidationError and JSONDecodeError are both ValueErrors
            raise ValueError(f"{directory}/{layout.MANIFEST_FILE} is damaged: {error}") from None

    def damage(self, directory: str, record: FileRecord) -> str | None:
        """What is wrong with one file of a directory, in words; None when it is whole."""
        path = self.folder / directory / record.file
        name = f"{directory}/{record.file}"
        try:
            size = path.stat().st_size
            if size != record.bytes:
                return f"{name} has {size} bytes, should have {record.bytes}"
            found = file_digest(path)
        except FileNotFoundError:
            return f"{name} is missing"
        if found != record.sha256:
            return f"{name} has SHA-256 {found[:12]}…, should have {record.sha256[:12]}…"
        return None

    def is_full(self) -> bool:
        """Whether the volume has next to no room left, for errors that lost their number."""
        return shutil.disk_usage(self.folder).free < 1 << 16

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(path: Path) -> FileRecord:
    """What proves the file at `path` whole."""
    return FileRecord(file=path.name, bytes=path.stat().st_size, sha256=file_digest(path))


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether `error`, or what it came from, says that the volume is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn OSError into a StorageError about `what`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error}", full=is_full(error)) from error
