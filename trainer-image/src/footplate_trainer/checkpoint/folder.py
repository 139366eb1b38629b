"""A run's checkpoint folder, on a file system or in a bucket.

Besides the operations that all storage has, a checkpoint needs streams, removal, and an exclusive "create".
The exclusion must hold against every other writer anywhere, so only storage that is known and tested to
provide it is accepted for writing. Readers need none of this (see store.py).
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from footplate_trainer.storage import BucketStorage, LocalStorage, Storage, is_local, sync_folder

_BUFFER: Final = 8 << 20  # bytes that one request brings


class ReadFolder(Storage, Protocol):
    """A read-only checkpoint folder on any kind of storage."""

    @contextmanager
    def open_read(self, name: str) -> Iterator[io.BufferedReader]:
        """Open a file as a seekable stream."""


class Folder(ReadFolder, Protocol):
    """A run's writable checkpoint folder. Names use "/"; every method may raise OSError."""

    def prepare(self) -> None:
        """Create the folder if necessary; OSError if it cannot be used."""

    def create(self, name: str, content: bytes) -> bool:
        """Create a file exclusively: of several writers only one succeeds; False when the name exists.

        A store whose response was lost may have created the file all the same and then reports False to the
        retry: read the file to find out whose it is.
        """

    def delete(self, name: str) -> None:
        """Delete a file; do nothing when there is none."""

    def remove(self, directory: str) -> None:
        """Remove a directory and its contents, as far as they exist."""

    @contextmanager
    def open_write(self, name: str) -> Iterator[Any]:
        """Open a stream with write(bytes); the file is durable once the context exits without an error."""


def open_folder(uri: str) -> Folder:
    """Open the folder at a path, a file:// or an s3:// URI without connecting; ValueError for any other."""
    if is_local(uri):
        return LocalFolder(uri)
    if urlsplit(uri).scheme == "s3":
        return BucketFolder(uri)
    raise ValueError(f"checkpoint folder {uri} is not supported; use a path, file:// or s3://")


class LocalFolder(LocalStorage):
    """Checkpoint folder on a mounted file system."""

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to write", str(self.folder))

    def create(self, name: str, content: bytes) -> bool:
        # O_EXCL and not a link, which many network and FUSE mounts lack. A kill between the two
        # leaves an empty file: readers take a torn marker for what it is.
        try:
            descriptor = os.open(self.folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                (self.folder / name).unlink()  # ours, and in nobody's way when it is tried again
            raise
        sync_folder(self.folder)
        return True

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        sync_folder(self.folder)

    def remove(self, directory: str) -> None:
        shutil.rmtree(self.folder / directory, ignore_errors=True)

    @contextmanager
    def open_write(self, name: str) -> Iterator[Any]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)

    @contextmanager
    def open_read(self, name: str) -> Iterator[io.BufferedReader]:
        with (self.folder / name).open("rb") as file:
            yield file


class BucketFolder(BucketStorage):
    """Checkpoint folder in a bucket; `open_folder` accepts only S3 buckets for writing."""

    def prepare(self) -> None:
        self.names()

    def create(self, name: str, content: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with self._errors(name):
            try:
                self._store.put(name, content, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def delete(self, name: str) -> None:
        with self._errors(name), suppress(FileNotFoundError):
            self._store.delete(name)

    def remove(self, directory: str) -> None:
        # What cannot be removed now is found again by the next retention.
        with suppress(OSError):
            for stored in self.list(directory):
                self.delete(stored.name)

    @contextmanager
    def open_write(self, name: str) -> Iterator[Any]:
        from obstore import open_writer

        with self._errors(name):
            writer = open_writer(self._store, name)
            yield writer
            writer.close()  # only here: without it the object never comes to be

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Read bytes [start, stop) of an object that has at least `stop`."""
        with self._errors(name):
            return self._store.get_range(name, start=start, end=stop).to_bytes()

    @contextmanager
    def open_read(self, name: str) -> Iterator[io.BufferedReader]:
        yield io.BufferedReader(_Ranges(self, name), _BUFFER)


class _Ranges(io.RawIOBase):
    """An object as a seekable stream; each read is one range request."""

    def __init__(self, folder: BucketFolder, name: str) -> None:
        super().__init__()
        self._folder = folder
        self._name = name
        self._size = folder.size(name)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        stop = min(self._place + len(buffer), self._size)
        if stop <= self._place:
            return 0
        found = self._folder.read_range(self._name, self._place, stop)
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)
