"""A folder that a field of a run names: on a mounted volume, in an object store or at another URI for fsspec.

Callers read its files in one way wherever it is. Small files are read in place. Ranks read
slices of large files, so those are copied to the node first, unless they are on a volume.

Errors name field, URI and remedy: UserMistake where a restart would not help,
else StorageError. Nothing here needs torch or numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from footplate_trainer.errors import StorageError, TrainerError, UserMistake
from footplate_trainer.node_cache import (
    CachedCopy,
    CacheError,
    CopyDiffers,
    RemoteFile,
    fetch,
    key_of,
    settings_from,
)
from footplate_trainer.storage import (
    LocalStorage,
    NoCredentials,
    StoredObject,
    is_local,
    join,
    open_storage,
)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class NodeFolder:
    """A folder on this machine with the requested files."""

    path: Path
    digest: str = ""  # of what they are, equal on all nodes; "" for a volume, which is not looked through
    copy: CachedCopy | None = None  # in use as long as this object lives


class InputFolder:
    """The folder at `uri`, which `field` of the spec names. File names have no "/"."""

    def __init__(self, uri: str, field: str, environment: Mapping[str, str] = os.environ) -> None:
        """Open the storage without connecting to it; UserMistake for a URI that no storage can read."""
        self.uri = uri
        self.field = field
        self._environment = environment
        try:
            self._storage = open_storage(uri)
        except ValueError as error:
            raise UserMistake(f"{field}: {error}") from error
        self._volume = self._storage.folder if isinstance(self._storage, LocalStorage) else None

    @property
    def name(self) -> str:
        """The folder as messages show it: a path on a volume, else its URI."""
        return str(self._volume) if self._volume else self.uri.rstrip("/")

    @property
    def is_on_volume(self) -> bool:
        """True if the folder is on this machine, so that nothing has to be copied."""
        return self._volume is not None

    @property
    def exists(self) -> bool:
        """True if the folder exists; always True off a volume, where only reading a file would show it."""
        return self._volume is None or self._volume.is_dir()

    def display_path(self, file: str) -> str:
        """Return the path or URI of a file in the folder, for messages."""
        return join(self.name, file)

    def names(self) -> list[str]:
        """Return the names of its files and folders, sorted.

        The list is empty where a web server lists none or the credentials may not list; its files may be
        readable all the same.
        """
        try:
            return sorted(self._storage.names())
        except OSError as error:
            if isinstance(error, PermissionError) and not self.is_on_volume:
                return []  # to list is a right of its own, and so is to read
            raise self.read_error(error) from None

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, or None if there is no such file."""
        return self._asked(self._storage.read, name)

    def stat(self, name: str) -> StoredObject | None:
        """Return a file's size and stamp without reading it, or None if there is no such file."""
        return self._asked(self._storage.stat, name)

    def _asked(self, ask: Callable[[str], Answer], name: str) -> Answer | None:
        try:
            return ask(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self.read_error(error) from None

    def fetch_to_node(
        self,
        files: Iterable[StoredObject],
        known: Mapping[str, bytes] | None = None,
        *,
        owner: str = "",
        local_rank: int = 0,
    ) -> NodeFolder:
        """Return the folder itself on a volume, else this node's copy of `files`, as stat() returned them.

        All ranks of a node may call it at once. `known` are small files that the caller has read, and that a
        copy contains too. A server may not report whether a file has changed since: a copy of its files
        belongs to one `owner` alone, such as a run.
        """
        if self._volume is not None:
            return NodeFolder(self._volume)
        wanted = [RemoteFile(file.name, file.bytes, stamp=file.stamp) for file in sorted(files)]
        key = copy_key(self.uri, wanted, known or {}, owner)
        try:
            copy = fetch(self._storage, key, wanted, settings_from(self._environment), local_rank, known)
        except CopyDiffers as error:
            raise StorageError(f"{self.field} {self.uri} changed while it was copied: {error}") from None
        except CacheError as error:
            raise StorageError(f"{self.field}: {error}") from None
        except OSError as error:
            raise self.read_error(error) from None
        return NodeFolder(copy.folder, key, copy)

    def user_mistake(self, told: str) -> UserMistake:
        """Return the UserMistake to raise when the folder is not as it should be."""
        return UserMistake(f"{self.field} {self.name}: {told}")

    def read_error(self, error: OSError) -> TrainerError:
        """Return the error to raise when a read failed with `error`, which names the file."""
        return folder_read_error(self.field, self.uri, error)


def folder_read_error(field: str, uri: str, error: OSError) -> TrainerError:
    """Return the error to raise when reading `uri`, which `field` names, failed with `error`."""
    if is_local(uri):
        return UserMistake(
            f"{field} {error.filename or uri}: cannot be read ({error.strerror or error}); check the volume "
            "and its permissions"
        )
    if isinstance(error, FileNotFoundError):
        return UserMistake(f"{field} cannot be read: {error}; use an existing folder")
    if isinstance(error, (PermissionError, NoCredentials)):
        return UserMistake(
            f"{field} cannot be read: {error}; set credentials that may read and list it in trainer.env or "
            "trainer.envFrom"
        )
    return StorageError(f"{field} cannot be read: {error}")


def copy_key(uri: str, files: Sequence[RemoteFile], known: Mapping[str, bytes], owner: str) -> str:
    """Return a key that differs when the files differ.

    Equal sizes prove nothing, and one modification time not much. Pure.
    """
    seen = [[file.name, file.bytes, file.stamp] for file in files]
    read = [[name, key_of(content)] for name, content in sorted(known.items())]
    whose = "" if all(file.stamp for file in files) else owner
    return key_of(json.dumps([uri, whose, seen, read]).encode())
